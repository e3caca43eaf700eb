package state_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// deletedDir is a directory that keeps its machine's id on host 1, with an offer in its journal, and deleted while it is open.
func deletedDir(t *testing.T, log *slog.Logger) *state.Dir {
	t.Helper()
	d, err := state.OpenOn(filepath.Join(t.TempDir(), "state"), "", "1", log)
	must(t, err)
	take(t, d.Journal, appA, toOffered...)
	must(t, os.RemoveAll(d.Path))
	return d
}

// What is written after the directory was deleted is there at the next start, under the same id, and shut to others as before.
func TestDo_directoryDeleted(t *testing.T) {
	var log logged
	d := deletedDir(t, log.logger())
	take(t, d.Journal, appA, succeed)
	_, err := state.Lock(d.Path)
	wantErr(t, err, state.ErrLocked)
	sameRecords(t, "after a crash", startedAgain(t, d, snapshot(t, d.Path), "1"), all(t, d.Journal))
	must(t, os.RemoveAll(d.Path)) // and again
	take(t, d.Journal, appA, sendInfo)
	must(t, d.Close())
	sameRecords(t, "at the next start", startedAgain(t, d, d.Path, "1"), all(t, d.Journal))
	want(t, "said to start afresh", strings.Contains(log.String(), "afresh"), false)
	want(t, "said to be deleted", strings.Contains(log.String(), "deleted"), true)
	release, err := state.Lock(d.Path)
	must(t, err)
	release()
	if id, _ := startOn(t, d.Path, "2"); id == d.MachineID {
		t.Error("a clone of the disk takes the id")
	}
}

// startedAgain opens path on a host as the next process of d's would, and returns what is in its journal.
func startedAgain(t *testing.T, d *state.Dir, path, host string) map[string]string {
	t.Helper()
	again, err := state.OpenOn(path, "", host, slog.New(slog.DiscardHandler))
	must(t, err)
	want(t, "machine id", again.MachineID, d.MachineID)
	want(t, "set aside", len(setAside(t, path)), 0)
	must(t, again.Close())
	return all(t, again.Journal)
}

// An id that was given is not kept after a deletion either.
func TestDo_directoryDeletedIDGiven(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := open(t, dir)
	must(t, os.RemoveAll(dir))
	take(t, d.Journal, appA, sendInfo)
	if _, err := os.Stat(filepath.Join(dir, "machine-id")); !os.IsNotExist(err) {
		t.Errorf("machine-id: %v", err)
	}
}

// A process that takes the new directory first keeps it; ours says so.
func TestDo_directoryDeletedAndTaken(t *testing.T) {
	d := deletedDir(t, slog.New(slog.DiscardHandler))
	must(t, os.Mkdir(d.Path, 0o700))
	release, err := state.Lock(d.Path)
	must(t, err)
	wantErr(t, d.Journal.Do(appA, succeed.do), state.ErrLocked)
	wantErr(t, d.Journal.Sync(), state.ErrLocked)
	want(t, "files of ours", len(contents(t, d.Path)), 1) // the lock, which is theirs
	release()
	must(t, d.Journal.Sync())
	_, err = state.Lock(d.Path)
	wantErr(t, err, state.ErrLocked)
	must(t, d.Close())
	sameRecords(t, "in the end", startedAgain(t, d, d.Path, "1"), all(t, d.Journal))
}

// What another process has written into the new directory is not touched, though it has gone since.
func TestDo_directoryDeletedAndUsed(t *testing.T) {
	for _, tc := range []struct {
		name string
		use  func(t *testing.T, ours *state.Dir)
	}{
		{"its journal", func(t *testing.T, ours *state.Dir) {
			release, err := state.Lock(ours.Path)
			must(t, err)
			wantErr(t, ours.Journal.Do(appB, sendInfo.do), state.ErrLocked) // lets go of the deleted file
			release()
			startOn(t, ours.Path, "1")
		}},
		{"its id", func(t *testing.T, ours *state.Dir) {
			must(t, os.WriteFile(filepath.Join(ours.Path, "machine-id"), []byte("0b8a2a40-6b7e-4c1f-9a31-111111111111\n"), 0o600))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := deletedDir(t, slog.New(slog.DiscardHandler))
			must(t, os.Mkdir(d.Path, 0o700))
			tc.use(t, d)
			before := contents(t, d.Path)
			for range 2 {
				if err := d.Journal.Do(appA, sendInfo.do); err == nil || !strings.Contains(err.Error(), "restart the program") {
					t.Errorf("error %v; want one that says what to do", err)
				}
			}
			if err := d.Close(); err == nil {
				t.Error("closed with everything written")
			}
			for name, content := range contents(t, d.Path) {
				if was, ok := before[name]; ok {
					want(t, name+" is as it was", content == was, true)
				}
			}
		})
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	m := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		m[e.Name()] = string(b)
	}
	return m
}
