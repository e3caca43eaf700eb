// Package durable changes files so that a crash, of the program or of the machine, leaves the content from before or the new one,
// and nothing between.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// newSuffix is what the name of a file ends in while it is written.
const newSuffix = ".new"

// Write replaces the file at path, which nobody else writes, and which is for its owner alone (mode 0600). It is on disk when Write returns
// nil; after an error the content from before is still there, or the new one. What stands in the way under the name path + ".new" (a
// crash's remains, a link that somebody planted) is removed, never followed; so is a link at path itself.
func Write(path string, content []byte) error {
	name := path + newSuffix
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(name, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return SyncDir(filepath.Dir(path))
}

// MkdirAll is os.MkdirAll for a directory that is its owner's alone (mode 0700), with the names of what it made on disk when it returns.
func MkdirAll(path string) error {
	parent := filepath.Dir(path)
	if _, err := os.Stat(path); err == nil || parent == path {
		return err
	}
	if err := MkdirAll(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := SyncDir(parent); !errors.Is(err, fs.ErrPermission) { // a parent may be closed to reading
		return err
	}
	return nil
}

// SyncDir puts renames and new names in dir on disk.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be opened for this there, nor need it be
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
