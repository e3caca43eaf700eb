package state_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// updatesEnv is how many updates TestJournal_fileStaysSmall goes through, 2,000 if unset; a release is tried with 100,000.
const updatesEnv = "OMAHACLIENT_STATE_UPDATES"

// The file does not grow with what has been written to it.
func TestJournal_fileStaysSmall(t *testing.T) {
	const apps, limit = 16, 256 << 10
	updates := 2000
	if s := os.Getenv(updatesEnv); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		updates = n
	}
	dir := t.TempDir()
	d := open(t, dir)
	delivered := step{"Delivered", func(a *state.App) error {
		var seqs []uint64
		for _, r := range a.Outbox {
			seqs = append(seqs, r.Seq)
		}
		return a.Delivered(seqs...)
	}}
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, "journal.db"))
		must(t, err)
		return info.Size()
	}
	round := func(n int) {
		var wg sync.WaitGroup
		for i := range apps {
			wg.Go(func() {
				for range n / apps {
					for _, s := range append(toOffered[:4:4], succeed, delivered) {
						if err := d.Journal.Do(fmt.Sprint("io.example.app-", i), s.do); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
	}
	round(updates / 10)
	early := size()
	round(updates - updates/10)
	t.Logf("%d bytes after %d updates, %d after %d", early, updates/10, size(), updates)
	if size() > limit {
		t.Errorf("%d bytes; want at most %d", size(), limit)
	}
}
