package state_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/nebraska/omahaclient/internal/state"
)

// Whatever bbolt writes is taken: in pages that split, merge, flow over and grow into branches of branches.
func TestReadJournal_takesAllThatBboltWrites(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		path := filepath.Join(t.TempDir(), "journal.db")
		db, err := bolt.Open(path, 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoSync: true})
		must(t, err)
		keys, longest := 20+rnd.IntN(3000), 1+rnd.IntN(400)
		for range 100 {
			deletes := rnd.IntN(3)
			must(t, db.Update(func(tx *bolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("apps"))
				must(t, err)
				for range 1 + rnd.IntN(60) {
					k := fmt.Appendf(nil, "%d%s", rnd.IntN(keys), strings.Repeat("k", rnd.IntN(longest)))
					if rnd.IntN(3) >= deletes {
						must(t, b.Put(k, make([]byte, rnd.IntN(5*longest))))
					} else if k, _ = b.Cursor().Seek(k); k != nil {
						must(t, b.Delete(bytes.Clone(k)))
					}
				}
				return nil
			}))
			file, err := os.ReadFile(path)
			must(t, err)
			must(t, state.Walk(bytes.NewReader(file), int64(len(file))))
		}
		must(t, db.Close())
	}
}

// bbolt finds a page in the one above by its first key. A branch that leads there by a lower one reads well, and the next write would
// leave two ways to the same records.
func TestReadJournal_branchWithALowerKey(t *testing.T) {
	file := largeJournal(t)
	lowered := 0
	for page := 0; page < len(file); page += os.Getpagesize() {
		if file[page+8] != 1 || !used(file, page) { // the kind of page: a branch
			continue
		}
		first := page + bytes.Index(file[page:], []byte("io.example."))
		for i := range len("io.example.0") {
			file[first+i]--
			_, err := state.ReadJournal(bytes.NewReader(file), int64(len(file)), machine)
			wantErr(t, err, state.ErrBroken)
			file[first+i]++
			lowered++
		}
	}
	if lowered == 0 {
		t.Error("there is no branch")
	}
}

// largeJournal is the file of a journal with a branch.
func largeJournal(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	d, err := state.Open(dir, machine, slog.New(slog.DiscardHandler))
	must(t, err)
	for i := range 40 {
		prepare(t, d.Journal, fmt.Sprint("io.example.", i), toGranted...)
	}
	must(t, d.Close())
	file, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	must(t, err)
	return file
}
