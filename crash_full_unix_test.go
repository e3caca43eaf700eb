//go:build unix

package omahaclient_test

import (
	"os/signal"
	"syscall"
)

// limitFiles lets every write to a file of this process fail (EFBIG, which is handled like ENOSPC), or no longer.
func limitFiles(full bool) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	if full {
		limit.Cur = 0
	}
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}
