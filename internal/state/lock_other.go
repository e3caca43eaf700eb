//go:build !darwin && !dragonfly && !freebsd && !linux && !netbsd && !openbsd && !windows

package state

import "os"

// lockFile leaves it to the lock that bbolt takes on the journal itself.
func lockFile(*os.File) error { return nil }
