//go:build unix

package apply

import (
	"io/fs"
	"os"
	"syscall"
)

// place lets from take the place of to, atomically; also of a program that runs.
func place(from, to, _ string) error { return os.Rename(from, to) }

// copyOwner gives f the owner of old.
func copyOwner(f *os.File, old fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	have, ok1 := info.Sys().(*syscall.Stat_t)
	want, ok2 := old.Sys().(*syscall.Stat_t)
	if !ok1 || !ok2 || have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
