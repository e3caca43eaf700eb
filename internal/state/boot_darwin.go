package state

import "golang.org/x/sys/unix"

// bootID reads the kernel's identifier of the session since boot.
func bootID() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}
