package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const trialFile = "trial.json"

// Trial is a program's replacement of its own executable, until the new version has proved itself. It is in a file beside
// the journal, so that the start of a program that crashes early can be counted without opening that.
type Trial struct {
	Starts     int    `json:"starts"`      // of the new version, none of which has confirmed it; 9 at most
	RolledBack bool   `json:"rolled_back"` // the version from before is to run again
	AppID      string `json:"app_id"`
	Version    string `json:"version"`
	Path       string `json:"path"`             // of the executable
	Old        string `json:"old"`              // of the version from before
	Digest     string `json:"digest"`           // of the new version, "sha256:…"
	Reason     string `json:"reason,omitempty"` // for which it was rolled back
}

// LoadTrial returns the trial of the state directory; nil for none.
func LoadTrial(dir string) (*Trial, error) {
	content, err := os.ReadFile(filepath.Join(dir, trialFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	t := &Trial{}
	if err == nil {
		err = json.Unmarshal(content, t)
	}
	if err != nil {
		return nil, fmt.Errorf("read trial of a new version: %w", err)
	}
	return t, nil
}

// Save writes t, durably.
func (t *Trial) Save(dir string) error {
	content, err := json.Marshal(t)
	if err == nil {
		plain := fmt.Sprintf(`{"starts":%d,"rolled_back":%t,`, t.Starts, t.RolledBack) // the first two fields
		content = append(t.marks(), content[len(plain):]...)
		err = WriteDurably(filepath.Join(dir, trialFile), content)
	}
	if err != nil {
		return fmt.Errorf("write trial of version %s: %w", t.Version, err)
	}
	return nil
}

// Mark writes Starts and RolledBack alone, durably, over those of the last Save: that needs no room on a full disk (but on one that copies
// what it writes, such as btrfs or zfs). Where it cannot, it tries as Save does.
func (t *Trial) Mark(dir string) error {
	if inPlace := t.overwrite(filepath.Join(dir, trialFile)); inPlace != nil {
		if err := t.Save(dir); err != nil {
			return errors.Join(err, inPlace)
		}
	}
	return nil
}

// marks is how each file begins, and always of one length, within one sector of any disk: one write changes all of it or nothing.
func (t *Trial) marks() []byte {
	const most = 9 // one digit
	return fmt.Appendf(nil, `{"starts":%d,"rolled_back":%-5t,`, min(t.Starts, most), t.RolledBack)
}

func (t *Trial) overwrite(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	marks := t.marks()
	have := make([]byte, len(marks))
	_, err = io.ReadFull(f, have)
	switch {
	case err != nil:
	case !isMarks(have):
		err = errors.New("it was written by another version of this library")
	default:
		if _, err = f.WriteAt(marks, 0); err == nil {
			err = f.Sync()
		}
	}
	return errors.Join(err, f.Close())
}

// isMarks reports whether b is what marks returns, for any trial.
func isMarks(b []byte) bool {
	var t Trial
	for _, t.RolledBack = range []bool{false, true} {
		for t.Starts = range 10 {
			if bytes.Equal(b, t.marks()) {
				return true
			}
		}
	}
	return false
}

// DropTrial ends the trial, if there is one.
func DropTrial(dir string) error {
	err := os.Remove(filepath.Join(dir, trialFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(dir))
}

// Lock takes the directory for a moment between its uses by clients. ErrLocked says that a client uses it now. Where a client has been
// before, it writes nothing: it works on a full disk, and on one that is read-only.
func Lock(dir string) (release func(), err error) {
	lock, err := os.Open(filepath.Join(dir, lockName))
	switch {
	case err != nil:
		lock, err = takeLock(filepath.Join(dir, lockName))
	default:
		if err = lockFile(lock); err != nil {
			err = errors.Join(err, lock.Close())
		}
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil // nothing was written to it
}

// LockFile takes a lock on a file of its own, until release or the end of the process, among goroutines as among processes. ErrLocked says
// that it is taken.
func LockFile(name string) (release func(), err error) {
	lock, err := takeLock(name)
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil // nothing was written to it
}

// Candidates lists the directories that Resolve may return when it is not told the first app: all that are there.
func Candidates(explicit string) ([]string, error) {
	const anyApp = "*"
	dir, err := Resolve(explicit, anyApp)
	if err != nil || filepath.Base(dir) != anyApp {
		return []string{dir}, err
	}
	return filepath.Glob(dir)
}

// WriteDurably replaces a file, which nobody else writes: write, fsync, rename, fsync of the directory.
func WriteDurably(path string, content []byte) error { return writeDurably(path, content) }

// SyncDir makes renames and new names in dir durable.
func SyncDir(dir string) error { return syncDir(dir) }
