package omahaclient_test

import (
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a small disk, which goes with the test. There must be more on it than what no fetch begins without.
func smallDisk(t *testing.T, dir string) error {
	t.Helper()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size=20m,mode=0700"); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return nil
}
