//go:build unix

package apply

import (
	"os"
	"syscall"
)

const canExec = true

// execSelf executes path in this process's place. It returns only where that fails.
func execSelf(path string) error {
	return &os.PathError{Op: "exec", Path: path, Err: syscall.Exec(path, os.Args, os.Environ())} //nolint:gosec // the program's own path
}
