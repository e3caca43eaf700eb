//go:build !linux && !darwin && !freebsd && !windows

package download

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// freeSpace cannot tell here.
func freeSpace(*os.File) (int64, error) { return -1, nil }

// lock takes everybody.
func lock(*os.File) error { return nil }

func linked(fs.FileInfo) bool { return false }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }

func syncDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
