package state

import (
	"os"
	"strings"
)

// bootID reads random(4)'s boot_id.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
