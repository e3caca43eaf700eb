package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// advised adds what to do about an error of the file system.
func advised(err error) error {
	for cause, advice := range map[error]string{
		syscall.EROFS:   "the file system is read-only: mount it writable, or let systemd (ReadWritePaths=)",
		syscall.EXDEV:   "the executable is a mount of its own: replace it where it comes from",
		syscall.EBUSY:   "the executable is a mount of its own: replace it where it comes from",
		syscall.ENOSPC:  "the disk is full: old and new version must both fit",
		syscall.ETXTBSY: "another program holds it open for writing",
		fs.ErrPermission: "no permission: the program needs to write to the executable's directory, and to execute there " +
			"(no noexec mount)",
	} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %s", err, advice)
		}
	}
	return err
}
