//go:build !unix

package apply

import (
	"errors"
	"io/fs"
	"os"
)

// place lets from take the place of to. A running program cannot be replaced here, but renamed: it goes to away.
func place(from, to, away string) error {
	err := os.Rename(from, to)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := os.Remove(away); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(to, away); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return errors.Join(err, os.Rename(away, to))
	}
	return nil
}

// copyOwner leaves the owner to what the directory hands down.
func copyOwner(*os.File, fs.FileInfo) error { return nil }
