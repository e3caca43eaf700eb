package state

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
)

// hostHash is a hash of the host's machine id, which itself is not to be passed on (machine-id(5)); "" if it has none that tells
// this machine from others for good. root is / and env os.Getenv, but in tests. An /etc that is made anew at each boot as a
// whole (a live system, a root in memory) is not noticed.
func hostHash(root string, env func(string) string) string {
	id := readID(filepath.Join(root, "etc", "machine-id"))
	if len(id) < 32 || id == transientID(root) || inContainer(root, env) {
		return ""
	}
	sum := sha256.Sum256([]byte("omahaclient " + id))
	return hex.EncodeToString(sum[:])
}

// transientID is the id that is made up for this boot alone; "" for none. Where systemd finds no id and cannot write one, it
// puts one there and mounts that over /etc/machine-id (systemd, src/shared/machine-id-setup.c). Once that has been committed to
// the disk, the file stays until the next boot: an id that has just become permanent counts from then on.
func transientID(root string) string { return readID(filepath.Join(root, "run", "machine-id")) }

// inContainer reports whether this is a container of the kind that is made anew with each of its images: its machine id is the
// image's, its own for as long as it lives, or that of whichever host it runs on. Its state directory outlives all of these. The marks
// are podman's and Docker's files, which systemd goes by as well (src/basic/virt.c), podman's $container and what Kubernetes
// gives every pod. Containers of other engines are not noticed; nor are those that are machines with a disk of their own, and
// can be cloned as such (LXC, systemd-nspawn).
func inContainer(root string, env func(string) string) bool {
	for _, mark := range []string{"run/.containerenv", ".dockerenv"} {
		if _, err := os.Lstat(filepath.Join(root, filepath.FromSlash(mark))); err == nil {
			return true
		}
	}
	return env("container") != "" || env("KUBERNETES_SERVICE_HOST") != ""
}

// readID reads a file that holds an id alone; "" for none.
func readID(path string) string {
	id, _ := os.ReadFile(path) // as good as none
	return strings.TrimSpace(string(id))
}
