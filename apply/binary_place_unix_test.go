//go:build unix

package apply_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nebraska/omahaclient/apply"
)

// agentAt is an executable of version 1 in a folder of its own.
func agentAt(t *testing.T) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "agent")
	write(t, path, program("1", 0), 0o755)
	return dir, path
}

// A machine may have been set up with the offered version.
func TestBinary_leavesWhatWasInPlaceAlready(t *testing.T) {
	_, path := agentAt(t)
	b := apply.Binary{Path: path, Probe: bad}
	same := offer(t, "1.0.0", program("1", 0))
	for same.Attempt = range 3 {
		err := b.Apply(t.Context(), same)
		wantErr(t, err, errDone)
		wantText(t, err, "in place already, and stays")
		want(t, "code", code(err), 5)
		wantFile(t, path, program("1", 0))
	}
	activated := false
	must(t, apply.Binary{Path: path, Activate: func(context.Context) error { activated = true; return nil }}.Apply(t.Context(), same))
	want(t, "activated", activated, true)
}

// What is kept may be cleaned away while an update is interrupted, all of it or a part.
func TestBinary_neverLeavesNothing(t *testing.T) {
	for _, tc := range []struct {
		name   string
		remove string
		first  bool
		code   int
		in     string // place at the end
	}{
		{"old", "old", false, 1, "2"},
		{"note", "swap", false, 5, "2"},
		{"both", "old swap", false, 5, "2"},
		{"the first one's note", "swap", true, 5, "2"},
		{"nothing", "", false, 44, "1"},
		{"nothing, the first one", "", true, 44, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, path := agentAt(t)
			if tc.first {
				must(t, os.Remove(path))
			}
			second := offer(t, "2.0.0", program("2", 0))
			_, lived := living(func() error {
				return apply.Binary{Path: path}.Faulty(killAt("after: place new", 1)).Apply(t.Context(), second)
			})
			want(t, "lived", lived, false)
			for what := range strings.FieldsSeq(tc.remove) {
				must(t, os.Remove(filepath.Join(dir, ".agent.omahaclient-"+what)))
			}
			second.Attempt = 2
			err := apply.Binary{Path: path, Probe: bad}.Apply(t.Context(), second)
			wantErr(t, err, errDone)
			want(t, "code", code(err), tc.code)
			if tc.in == "" {
				want(t, "files", names(t, dir), "")
				return
			}
			wantFile(t, path, program(tc.in, 0))
		})
	}
}

func TestBinary_putsBackNothingButWhatItKept(t *testing.T) {
	dir, path := agentAt(t)
	old := filepath.Join(dir, ".agent.omahaclient-old")
	meddle := apply.ProbeFunc(func(context.Context) error {
		must(t, os.Remove(old))
		write(t, old, "half of it", 0o755)
		return errDone
	})
	err := apply.Binary{Path: path, Probe: meddle}.Apply(t.Context(), offer(t, "2.0.0", program("2", 0)))
	want(t, "code", code(err), 1)
	wantText(t, err, "stays")
	wantFile(t, path, program("2", 0))
}

// A first version that was found well stays, for there is none to go back to.
func TestBinary_keepsAFirstOneThatWasWell(t *testing.T) {
	dir, path := agentAt(t)
	must(t, os.Remove(path))
	first := offer(t, "2.0.0", program("2", 0))
	must(t, apply.Binary{Path: path}.Apply(t.Context(), first))
	want(t, "code", code(apply.Binary{Path: path, Probe: bad}.Apply(t.Context(), first)), 1)
	want(t, "files", names(t, dir), ".agent.omahaclient-swap agent")
}

// failingAt makes a hook that fails steps.
func failingAt(err error, points ...string) func(string) error {
	return func(point string) error {
		if slices.Contains(points, point) {
			return err
		}
		return nil
	}
}

func TestBinary_aFailedSyncIsRolledBack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first bool
		nth   int // sync that fails, and all later ones for a negative one
		code  int
		in    string
	}{
		{"after the swap", false, 2, 44, "1"},
		{"after the swap, and after the way back", false, -2, 44, "1"},
		{"after the first one came", true, 1, 44, ""},
		{"before the swap", false, 1, 5, "1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, path := agentAt(t)
			if tc.first {
				must(t, os.Remove(path))
			}
			n := 0
			b := apply.Binary{Path: path}.Faulty(func(point string) error {
				if point == "before: sync" {
					if n++; n == tc.nth || tc.nth < 0 && n >= -tc.nth {
						return syscall.EIO
					}
				}
				return nil
			})
			err := b.Apply(t.Context(), offer(t, "2.0.0", program("2", 0)))
			wantErr(t, err, syscall.EIO)
			want(t, "code", code(err), tc.code)
			if tc.in == "" {
				want(t, "files", names(t, dir), "")
				return
			}
			wantFile(t, path, program(tc.in, 0))
		})
	}
}

func TestBinary_saysWhatToDo(t *testing.T) {
	for _, tc := range []struct {
		at   string
		err  error
		text string
	}{
		{"before: unpack", syscall.EROFS, "read-only: mount it writable"},
		{"before: place new", syscall.EXDEV, "a mount of its own"},
		{"before: place new", syscall.EBUSY, "a mount of its own"},
		{"before: unpack", syscall.EACCES, "needs to write to the executable's directory"},
		{"before: write swap", syscall.ENOSPC, "the disk is full"},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			_, path := agentAt(t)
			hook := failingAt(&os.LinkError{Op: "rename", Old: "new", New: path, Err: tc.err}, tc.at)
			err := apply.Binary{Path: path}.Faulty(hook).Apply(t.Context(), offer(t, "2.0.0", program("2", 0)))
			wantErr(t, err, tc.err)
			wantText(t, err, tc.text)
			want(t, "code", code(err), 5)
			wantFile(t, path, program("1", 0))
		})
	}
	t.Run("text file busy", func(t *testing.T) {
		dir, path := agentAt(t)
		var busy *os.File
		b := apply.Binary{Path: path}.Faulty(func(point string) (err error) {
			if point == "before: try" {
				busy, err = os.OpenFile(filepath.Join(dir, ".agent.omahaclient-new"), os.O_WRONLY, 0)
			}
			return err
		})
		err := b.Apply(t.Context(), offer(t, "2.0.0", program("2", 0)))
		must(t, busy.Close())
		wantErr(t, err, syscall.ETXTBSY)
		wantText(t, err, "another program holds it open for writing")
	})
}

// A running program is replaced, although it cannot be written to.
func TestBinary_replacesARunningProgram(t *testing.T) {
	_, path := agentAt(t)
	must(t, os.WriteFile(path, agentOf(t, "1.0.0", "well"), 0o755))
	cmd := child(t, "sleeper")
	cmd.Path = path
	ends, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { must(t, errors.Join(ends.Close(), cmd.Wait())) }()
	if _, err := os.OpenFile(path, os.O_WRONLY, 0); !errors.Is(err, syscall.ETXTBSY) {
		t.Logf("it can be written to while it runs: %v", err) // not every system minds
	}
	must(t, apply.Binary{Path: path}.Apply(t.Context(), offer(t, "2.0.0", program("2", 0))))
	wantFile(t, path, program("2", 0))
}

func init() { //nolint:gochecknoinits // before TestMain
	children["sleeper"] = func([]string) error { _, err := os.Stdin.Read(make([]byte, 1)); _ = err; return nil }
}

// recording makes a hook that keeps all steps that were taken.
func recording(points *[]string) func(string) error {
	return func(point string) error {
		if step, after := strings.CutPrefix(point, "after: "); after {
			*points = append(*points, step)
		}
		return nil
	}
}

// What is put in place was synced before, and so was what tells of it; its name is synced after.
func TestBinary_syncsWhatItPutsInPlace(t *testing.T) {
	_, path := agentAt(t)
	var points []string
	must(t, apply.Binary{Path: path, NoTry: true}.Faulty(recording(&points)).Apply(t.Context(), offer(t, "2.0.0", program("2", 0))))
	want(t, "steps", strings.Join(points, ", "), "sync file, unpack, try, write swap, hard link, link old, keep old, sync, place new, sync, probe, write swap")
	points = nil
	err := apply.Binary{Path: path, NoTry: true, Probe: bad}.Faulty(recording(&points)).Apply(t.Context(), offer(t, "3.0.0", program("3", 0)))
	want(t, "code", code(err), 44)
	want(t, "steps", strings.Join(points, ", "), "sync file, unpack, try, write swap, hard link, link old, keep old, sync, place new, sync, probe, "+
		"write swap, hard link, link back, place back, sync, drop swap, sync")
}

// Where the file system has no hard links, the old executable is copied.
func TestBinary_withoutHardLinks(t *testing.T) {
	dir, path := agentAt(t)
	must(t, os.Chmod(path, 0o751))
	var points []string
	record := recording(&points)
	b := apply.Binary{Path: path, NoTry: true}.Faulty(func(point string) error {
		return errors.Join(record(point), failingAt(syscall.EPERM, "before: hard link")(point))
	})
	must(t, b.Apply(t.Context(), offer(t, "2.0.0", program("2", 0))))
	old := filepath.Join(dir, ".agent.omahaclient-old")
	wantFile(t, old, program("1", 0))
	wantMode(t, old, 0o751)
	want(t, "steps", strings.Join(points, ", "), "sync file, unpack, try, write swap, sync file, link old, keep old, sync, place new, sync, probe, write swap")
	b.Probe = bad
	want(t, "code", code(b.Apply(t.Context(), offer(t, "3.0.0", program("3", 0)))), 44)
	wantFile(t, path, program("2", 0))
	wantMode(t, path, 0o751)
}

func wantMode(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	want(t, "mode of "+path, info.Mode(), mode)
}

// The new executable gets the owner of the old one, and keeps its setuid bit, which a change of the owner takes away.
func TestBinary_keepsTheOwner(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("run it as root: nobody else may give a file to another user")
		}
		fmt.Fprintf(os.Stderr, "NOT TESTED, %s needs to give a file to another user\n", t.Name())
		return
	}
	const uid, gid = 65533, 65532
	for _, links := range []bool{true, false} {
		dir, path := agentAt(t)
		must(t, os.Chown(path, uid, gid))
		must(t, os.Chmod(path, 0o755|fs.ModeSetuid))
		b := apply.Binary{Path: path, NoTry: true}
		if !links {
			b = b.Faulty(failingAt(syscall.EPERM, "before: hard link"))
		}
		must(t, b.Apply(t.Context(), offer(t, "2.0.0", program("2", 0))))
		for _, file := range []string{path, filepath.Join(dir, ".agent.omahaclient-old")} {
			info, err := os.Stat(file)
			must(t, err)
			stat, ok := info.Sys().(*syscall.Stat_t)
			want(t, "known", ok, true)
			want(t, "owner of "+file, fmt.Sprint(stat.Uid, " ", stat.Gid), fmt.Sprint(uid, " ", gid))
			wantMode(t, file, 0o755|fs.ModeSetuid)
		}
	}
}
