//go:build unix

package apply_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// program is an executable of a version that exits with a status.
func program(version string, status int) string {
	return fmt.Sprintf("#!/bin/sh\necho version %s; exit %d\n", version, status)
}

func TestBinary_replacesAnExecutable(t *testing.T) {
	for _, format := range []string{"plain", "gzip", "zstd", "xz"} {
		t.Run(format, func(t *testing.T) {
			w := onSockets(t)
			dir := t.TempDir()
			path := filepath.Join(dir, "agent")
			write(t, path, program("1", 0), 0o751)
			w.offering(appA, "2.0.0", packed(t, format, program("2", 0)))
			must(t, w.outcome(apply.Binary{Path: path, Probe: apply.Exec(path)}))
			want(t, "server", w.instance(appA).Status, testserver.Complete)
			wantFile(t, path, program("2", 0))
			wantFile(t, filepath.Join(dir, ".agent.omahaclient-old"), program("1", 0))
			want(t, "files", names(t, dir), ".agent.omahaclient-old .agent.omahaclient-swap agent")
			info, err := os.Stat(path)
			must(t, err)
			want(t, "mode", info.Mode().Perm(), 0o751)
		})
	}
}

func TestBinary_refusesOrRollsBack(t *testing.T) {
	failing := apply.ProbeFunc(func(context.Context) error { return errDone })
	for _, tc := range []struct {
		name    string
		old     string
		content string
		b       apply.Binary
		code    omaha.ExitCode
		text    string
		files   string
	}{
		{"does not run", program("1", 0), program("2", 7), apply.Binary{}, 5, "exit status 7", "agent"},
		{"is empty once unpacked", program("1", 0), string(packed(t, "gzip", "")), apply.Binary{}, 5, "empty", "agent"},
		{"is damaged", program("1", 0), "\x1f\x8b junk", apply.Binary{}, 5, "unpack", "agent"},
		{"is too large", program("1", 0), string(packed(t, "zstd", strings.Repeat("a", 4000))), apply.Binary{MaxSize: 1000}, 5, "raise the limit", "agent"},
		{"is of another system", program("1", 0), "\x7fELF nonsense", apply.Binary{}, 5, "exec format error", "agent"},
		{"has no such payload", program("1", 0), program("2", 0), apply.Binary{Payload: "other"}, 5, `no payload "other"`, "agent"},
		{"is not well", program("1", 0), program("2", 0), apply.Binary{Probe: failing}, 44, "is put back", ".agent.omahaclient-old agent"},
		{"cannot be activated", program("1", 0), program("2", 0), apply.Binary{Activate: failing.Probe}, 44, "the version from before: activate", ".agent.omahaclient-old agent"},
		{"is not well and the first", "", program("2", 0), apply.Binary{Probe: failing}, 44, "is put back", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := onSockets(t)
			dir := t.TempDir()
			tc.b.Path = filepath.Join(dir, "agent")
			if tc.old != "" {
				write(t, tc.b.Path, tc.old, 0o755)
			}
			w.offering(appA, "2.0.0", []byte(tc.content))
			err := w.outcome(tc.b)
			wantText(t, err, tc.text)
			want(t, "code", code(err), int(tc.code))
			want(t, "reported", w.instance(appA).ErrorCode, int(tc.code))
			want(t, "files", names(t, dir), tc.files)
			if tc.old != "" {
				wantFile(t, tc.b.Path, tc.old)
			}
		})
	}
}

func TestBinary_replacesWhatALinkPointsTo(t *testing.T) {
	w := onSockets(t)
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	path := filepath.Join(dir, "real", "agent")
	write(t, path, program("1", 0), 0o755)
	link := filepath.Join(dir, "agent")
	must(t, os.Symlink("real/agent", link))
	w.offering(appA, "2.0.0", []byte(program("2", 0)))
	must(t, w.outcome(apply.Binary{Path: link}))
	wantFile(t, path, program("2", 0))
	if to, err := os.Readlink(link); to != "real/agent" {
		t.Errorf("link to %q, %v", to, err)
	}
}
