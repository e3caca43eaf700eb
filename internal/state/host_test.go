package state_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// The id of a host that is another one at the next boot, or in the next container, says nothing: what the directory keeps
// stays this machine's.
func TestMachineID_hostIDThatDoesNotLast(t *testing.T) {
	id := func(n string) string { return strings.Repeat(n, 32) + "\n" }
	for _, tc := range []struct {
		name  string
		boots [2]map[string]string // files and environment variables
		same  bool
	}{
		{"permanent", [2]map[string]string{{"etc/machine-id": id("1")}, {"etc/machine-id": id("1")}}, true},
		{"cloned disk", [2]map[string]string{{"etc/machine-id": id("1")}, {"etc/machine-id": id("2")}}, false},
		{"transient", [2]map[string]string{
			{"etc/machine-id": id("1"), "run/machine-id": id("1")},
			{"etc/machine-id": id("2"), "run/machine-id": id("2")},
		}, true},
		{"transient, then committed", [2]map[string]string{
			{"etc/machine-id": id("1"), "run/machine-id": id("1")},
			{"etc/machine-id": id("1")},
		}, true},
		{"permanent once, and lost", [2]map[string]string{
			{"etc/machine-id": id("1")},
			{"etc/machine-id": id("2"), "run/machine-id": id("2")},
		}, true},
		{"cloned disk, of a boot with another transient id", [2]map[string]string{
			{"etc/machine-id": id("1")},
			{"etc/machine-id": id("2"), "run/machine-id": id("3")},
		}, false},
		{"Docker", [2]map[string]string{
			{"etc/machine-id": id("1"), ".dockerenv": ""},
			{"etc/machine-id": id("2"), ".dockerenv": ""},
		}, true},
		{"podman", [2]map[string]string{
			{"etc/machine-id": id("1"), "run/.containerenv": ""},
			{"etc/machine-id": id("2"), "run/.containerenv": ""},
		}, true},
		{"podman, by its variable", [2]map[string]string{
			{"etc/machine-id": id("1"), "$container": "podman"},
			{"etc/machine-id": id("2"), "$container": "podman"},
		}, true},
		{"Kubernetes", [2]map[string]string{
			{"etc/machine-id": id("1"), "$KUBERNETES_SERVICE_HOST": "192.0.2.1"},
			{"etc/machine-id": id("2"), "$KUBERNETES_SERVICE_HOST": "192.0.2.1"},
		}, true},
		{"uninitialized", [2]map[string]string{{"etc/machine-id": "uninitialized\n"}, {"etc/machine-id": id("1")}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			first, _ := startOn(t, dir, hostOf(t, tc.boots[0]))
			second, reports := startOn(t, dir, hostOf(t, tc.boots[1]))
			want(t, "same id", second == first, tc.same)
			want(t, "same journal", reports == 2, tc.same)
		})
	}
}

// hostOf is the hash of a host with these files and environment variables.
func hostOf(t *testing.T, has map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range has {
		if strings.HasPrefix(name, "$") {
			continue
		}
		path := filepath.Join(root, filepath.FromSlash(name))
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return state.HostHash(root, func(name string) string { return has["$"+name] })
}
