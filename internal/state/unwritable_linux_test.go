package state_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

const another = 65534 // a user's number

// asAnother does fn as a user who may do less than this one, if this one is root.
func asAnother(t *testing.T, fn func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		return fn()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, which alone is the other user's, ends with the goroutine
		if err := syscall.Setfsuid(another); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// Where the state cannot be kept, the error says what to do.
func TestOpen_notWritable(t *testing.T) {
	for _, tc := range []struct {
		name, below string
		prepare     func(t *testing.T, dir string)
	}{
		{"cannot be made", "state", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o500)) }},
		{"cannot be written", "", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o500)) }},
		{"lock of another user", "", func(t *testing.T, dir string) { shared(t, dir, 0) }},
		{"id of another user", "", func(t *testing.T, dir string) { shared(t, dir, 0o666) }},
		{"private to another user", "", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "journal.db"), nil, 0))
			shared(t, dir, 0o666)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Chmod(filepath.Dir(dir), 0o755))
			tc.prepare(t, dir)
			err := asAnother(t, func() error {
				_, err := state.Open(filepath.Join(dir, tc.below), "", slog.New(slog.DiscardHandler))
				return err
			})
			if err == nil || !strings.Contains(err.Error(), "WithStateDir") || !errors.Is(err, fs.ErrPermission) {
				t.Errorf("error %v; want one that says what to do", err)
			}
			must(t, os.Chmod(dir, 0o700))
		})
	}
}

// shared makes a directory that others may look into, with a lock of this mode and an id that nobody else may read.
func shared(t *testing.T, dir string, lock fs.FileMode) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, "machine-id"), nil, 0))
	must(t, os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600))
	must(t, os.Chmod(filepath.Join(dir, "lock"), lock))
	must(t, os.Chmod(dir, 0o755))
}
