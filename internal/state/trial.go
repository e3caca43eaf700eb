package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const trialFile = "trial.json"

// Trial is a program's replacement of its own executable, until the new version has proved itself. It is in a file beside
// the journal, so that the start of a program that crashes early can be counted without opening that.
type Trial struct {
	AppID      string `json:"app_id"`
	Version    string `json:"version"`
	Path       string `json:"path"`                  // of the executable
	Old        string `json:"old"`                   // of the version from before
	Digest     string `json:"digest"`                // of the new version, "sha256:…"
	Starts     int    `json:"starts,omitempty"`      // of the new version, none of which has confirmed it
	RolledBack bool   `json:"rolled_back,omitempty"` // the version from before is to run again
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
		err = WriteDurably(filepath.Join(dir, trialFile), content)
	}
	if err != nil {
		return fmt.Errorf("write trial of version %s: %w", t.Version, err)
	}
	return nil
}

// DropTrial ends the trial, if there is one.
func DropTrial(dir string) error {
	err := os.Remove(filepath.Join(dir, trialFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(dir))
}

// Lock takes the directory for a moment between its uses by clients. ErrLocked says that a client uses it now.
func Lock(dir string) (release func(), err error) {
	lock, err := takeLock(filepath.Join(dir, lockName))
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
