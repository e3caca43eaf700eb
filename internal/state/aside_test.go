package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/nebraska/omahaclient/internal/state"
)

// boltFile makes a bbolt database with these buckets, keys and values.
func boltFile(t testing.TB, path string, content map[string]map[string]string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		for bucket, values := range content {
			b, err := tx.CreateBucket([]byte(bucket))
			must(t, err)
			for k, v := range values {
				must(t, b.Put([]byte(k), []byte(v)))
			}
		}
		return nil
	}))
	must(t, db.Close())
}

// What is no journal of ours is set aside with its content, and logged; work goes on without it.
func TestOpen_setsForeignFilesAside(t *testing.T) {
	ours := func(values map[string]string) map[string]map[string]string {
		raw := map[string][]byte{}
		for id, v := range values {
			raw[id] = []byte(v)
		}
		return map[string]map[string]string{
			"file": {"format": "omahaclient-1", "machine": machine, "total": state.Total(raw)}, "apps": values,
		}
	}
	for _, tc := range []struct {
		name string
		make func(t *testing.T, path string)
	}{
		{"text", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte(strings.Repeat("somebody's diary\n", 5000)), 0o600))
		}},
		{"a few bytes", func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("x"), 0o600)) }},
		{"zeros", func(t *testing.T, path string) { must(t, os.WriteFile(path, make([]byte, 1<<16), 0o600)) }},
		{"another program's database", func(t *testing.T, path string) {
			boltFile(t, path, map[string]map[string]string{"users": {"alice": "secret"}})
		}},
		{"another program's buckets of the same name", func(t *testing.T, path string) {
			boltFile(t, path, map[string]map[string]string{"apps": {"alice": "secret"}})
		}},
		{"a newer format", func(t *testing.T, path string) {
			boltFile(t, path, map[string]map[string]string{"file": {"format": "omahaclient-2", "machine": machine}, "apps": {appA: "new"}})
		}},
		{"another machine's journal", func(t *testing.T, path string) {
			d, err := state.Open(filepath.Dir(path), "machine-2", slog.New(slog.DiscardHandler))
			must(t, err)
			take(t, d.Journal, appA, toOffered...)
			must(t, d.Close())
		}},
		{"a record with a wrong checksum", func(t *testing.T, path string) {
			boltFile(t, path, ours(map[string]string{appA: "\x00\x00\x00\x00{}"}))
		}},
		{"another app's record", func(t *testing.T, path string) {
			v, err := state.Encode(appB, &state.App{Version: "1.0.0"})
			must(t, err)
			boltFile(t, path, ours(map[string]string{appA: string(v)}))
		}},
		{"a record that cannot be", func(t *testing.T, path string) {
			v, err := state.Encode(appA, &state.App{Update: &state.Update{}, Pending: &state.Pending{}})
			must(t, err)
			boltFile(t, path, ours(map[string]string{appA: string(v)}))
		}},
		{"records out of order", func(t *testing.T, path string) {
			a, err := state.Encode(appA, &state.App{})
			must(t, err)
			b, err := state.Encode(appB, &state.App{})
			must(t, err)
			boltFile(t, path, ours(map[string]string{appA: string(b), appB: string(a)}))
			file, err := os.ReadFile(path)
			must(t, err)
			swapped := strings.NewReplacer(appA, appB, appB, appA).Replace(string(file))
			must(t, os.WriteFile(path, []byte(swapped), 0o600))
		}},
		{"a record missing", func(t *testing.T, path string) {
			a, err := state.Encode(appA, &state.App{})
			must(t, err)
			b, err := state.Encode(appB, &state.App{})
			must(t, err)
			content := ours(map[string]string{appA: string(a), appB: string(b)})
			delete(content["apps"], appA)
			boltFile(t, path, content)
		}},
		{"a folder", func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "journal.db")
			tc.make(t, path)
			before, _ := os.ReadFile(path) // a folder has none
			var log logged
			d, err := state.Open(dir, machine, log.logger())
			must(t, err)
			want(t, "records", len(d.Journal.IDs()), 0)
			take(t, d.Journal, appA, toOffered...)
			must(t, d.Close())

			aside := setAside(t, dir)
			if len(aside) != 1 {
				t.Fatalf("set aside: %v", aside)
			}
			after, _ := os.ReadFile(aside[0])
			want(t, "content unchanged", bytes.Equal(before, after), true)
			want(t, "logged "+log.String(), strings.Contains(log.String(), filepath.Base(aside[0])), true)

			want(t, "phase in the new journal", open(t, dir).Journal.Get(appA).Update.Phase, state.Offered)
			want(t, "set aside at the next start", len(setAside(t, dir)), 1)
		})
	}
}

// What a crash leaves of a start is no damage.
func TestOpen_unfinishedFirstStart(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T, path string)
	}{
		{"empty file", func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) }},
		{"no bucket", func(t *testing.T, path string) { boltFile(t, path, nil) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			tc.make(t, filepath.Join(dir, "journal.db"))
			take(t, open(t, dir).Journal, appA, sendInfo)
			want(t, "files set aside", len(setAside(t, dir)), 0)
			want(t, "reports", len(crashed(t, dir).Journal.Get(appA).Outbox), 1)
		})
	}
}

// A disk that damages every journal is not filled with them.
func TestOpen_keepsTheNewestFilesSetAside(t *testing.T) {
	dir := t.TempDir()
	for i := range state.MaxAside + 5 {
		must(t, os.WriteFile(filepath.Join(dir, "journal.db"), fmt.Append(nil, "junk ", i), 0o600))
		must(t, tryOpen(dir))
	}
	var contents []string
	for _, name := range setAside(t, dir) {
		b, err := os.ReadFile(name)
		must(t, err)
		contents = append(contents, string(b))
	}
	want(t, "files", len(contents), state.MaxAside)
	want(t, "the newest is among them", slices.Contains(contents, fmt.Sprint("junk ", state.MaxAside+4)), true)
	want(t, "the oldest is", slices.Contains(contents, "junk 0"), false)
}

// A file that breaks under our hands is replaced by what is in memory, and the program goes on.
func TestDo_fileDamagedWhileOpen(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, path string)
		aside  int
	}{
		{"emptied", func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, 1},
		{"cut off", func(t *testing.T, path string) { must(t, os.Truncate(path, 9000)) }, 1},
		{"overwritten", func(t *testing.T, path string) { overwrite(t, path, 0) }, 1},
		{"pages overwritten", func(t *testing.T, path string) { overwrite(t, path, 8192) }, 1},
		{"deleted", func(t *testing.T, path string) { must(t, os.Remove(path)) }, 0},
		{"folder deleted", func(t *testing.T, path string) { must(t, os.RemoveAll(filepath.Dir(path))) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			var log logged
			d, err := state.Open(dir, machine, log.logger())
			must(t, err)
			j := d.Journal
			for i := range 50 {
				prepare(t, j, fmt.Sprintf("io.example.app-%d", i), toOffered...)
			}
			take(t, j, appA, toOffered...)
			path := filepath.Join(dir, "journal.db")
			tc.damage(t, path)
			take(t, j, appA, succeed)
			want(t, "files set aside", len(setAside(t, dir)), tc.aside)
			want(t, "logged", log.String() != "", true)
			sameRecords(t, "after a crash", all(t, crashed(t, dir).Journal), all(t, j))
			take(t, j, appB, toOffered...)
			must(t, d.Close())
			again := open(t, dir)
			sameRecords(t, "reopened", all(t, again.Journal), all(t, j))
			left, err := filepath.Glob(filepath.Join(dir, "*.new"))
			must(t, err)
			want(t, "files left over", len(left), 0)
		})
	}
}

// Wherever the file is cut off, and whatever transition comes then, no app's record is lost.
func TestDo_fileCutOffAtEachPage(t *testing.T) {
	page := int64(os.Getpagesize())
	for n := int64(1); ; n++ {
		dir := t.TempDir()
		d := open(t, dir)
		for i := range 12 { // on several pages
			prepare(t, d.Journal, fmt.Sprintf("io.example.app-%02d", i), append(toOffered[:4:4], send(state.Report{Type: 1, Previous: strings.Repeat("x", 900)}))...)
		}
		path := filepath.Join(dir, "journal.db")
		info, err := os.Stat(path)
		must(t, err)
		if n*page >= info.Size() {
			return
		}
		must(t, os.Truncate(path, n*page))
		take(t, d.Journal, "io.example.app-00", succeed)
		take(t, d.Journal, "io.example.app-11", succeed)
		sameRecords(t, fmt.Sprintf("cut off after %d pages", n), all(t, crashed(t, dir).Journal), all(t, d.Journal))
		must(t, d.Close())
	}
}

// overwrite puts junk into a file, from a place on, without changing its length.
func overwrite(t *testing.T, path string, from int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{0xA5}, int(info.Size()-from)), from)
	must(t, err)
	must(t, f.Close())
}

// A damaged file that cannot be replaced is not touched again, and nobody waits for a lock that will never be released.
func TestDo_damagedFileThatCannotBeReplaced(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	j := d.Journal
	take(t, j, appA, toOffered...)
	overwrite(t, filepath.Join(dir, "journal.db"), 0)
	obstacle := filepath.Join(dir, "journal.db.new")
	must(t, os.MkdirAll(filepath.Join(obstacle, "full"), 0o700))
	for range 3 {
		if err := j.Do(appA, offer.do); err == nil {
			t.Fatal("written")
		}
	}
	want(t, "files set aside", len(setAside(t, dir)), 0)
	must(t, os.RemoveAll(obstacle))
	must(t, j.Sync())
	want(t, "times handed over", crashed(t, dir).Journal.Get(appA).Tried.Handed, 4)
}

// Another file in the journal's place may be another program's: it is left alone, and so is ours.
func TestDo_fileReplacedByAnother(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	take(t, d.Journal, appA, toOffered...)
	restore := replaced(t, dir)
	if err := d.Journal.Do(appA, succeed.do); err == nil {
		t.Error("written to a file that the next start will not find")
	}
	restore()
	must(t, d.Close())
	want(t, "version", open(t, dir).Journal.Get(appA).Version, "2.0.0")
}

// A head that was being written when the power failed leaves the transaction before.
func TestOpen_tornHead(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	before := text(t, take(t, d.Journal, appA, toFetched...))
	after := text(t, take(t, d.Journal, appA, offer))
	must(t, d.Close())
	newest := int64(transactions(t, dir)%2) * int64(os.Getpagesize())
	for _, tc := range []struct {
		name string
		at   int64
		want string
	}{
		{"the newer one", newest, before},
		{"the older one", int64(os.Getpagesize()) - newest, after},
	} {
		t.Run(tc.name, func(t *testing.T) {
			copied := snapshot(t, dir)
			f, err := os.OpenFile(filepath.Join(copied, "journal.db"), os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt(make([]byte, 512), tc.at)
			must(t, errors.Join(err, f.Close()))
			d := open(t, copied)
			want(t, "record", text(t, d.Journal.Get(appA)), tc.want)
			take(t, d.Journal, appA, sendInfo)
			sameRecords(t, "after a crash", all(t, crashed(t, copied).Journal), all(t, d.Journal))
			want(t, "files set aside", len(setAside(t, copied)), 0)
		})
	}
}
