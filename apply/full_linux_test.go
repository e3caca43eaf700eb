package apply_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nebraska/omahaclient/apply"
)

// smallDisk mounts a file system of some KiB, where this process may. Where CI says that it must, it fails.
func smallDisk(t *testing.T, kib int) (dir string, ok bool) {
	t.Helper()
	dir = t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk,mode=0755", kib))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small tmpfs (as root): %v", err)
		}
		fmt.Fprintf(os.Stderr, "NOT TESTED, %s needs to mount a tmpfs: %v\n", t.Name(), err)
		return "", false
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, 0)) })
	return dir, true
}

func TestBinary_diskFull(t *testing.T) {
	long := func(version string) string { return program(version, 0) + strings.Repeat("#\n", 40<<10) }
	for kib := 84; kib <= 180; kib += 8 { // from the old one alone to both and more
		dir, ok := smallDisk(t, kib)
		if !ok {
			return
		}
		path := filepath.Join(dir, "agent")
		write(t, path, long("1"), 0o755)
		b := apply.Binary{Path: path, Probe: apply.Exec(path)}
		second := offer(t, "2.0.0", long("2"))
		if err := b.Apply(t.Context(), second); err != nil {
			if !errors.Is(err, syscall.ENOSPC) || code(err) != 5 {
				t.Fatalf("%d KiB: %v, code %d", kib, err, code(err))
			}
			wantText(t, err, "the disk is full")
			wantFile(t, path, long("1"))
			want(t, "files", names(t, dir), "agent")
			if kib >= 172 {
				t.Errorf("%d KiB: both fit: %v", kib, err)
			}
			continue
		}
		wantFile(t, path, long("2"))
	}
}

func TestArchive_diskFull(t *testing.T) {
	files := func(version string) (list []item) {
		for n := range 10 {
			list = append(list, item{name: fmt.Sprintf("d%d/f", n), content: strings.Repeat(version, 3000)})
		}
		return list
	}
	failed, taken := 0, 0
	for kib := 200; kib <= 520; kib += 8 {
		dir, ok := smallDisk(t, kib)
		if !ok {
			return
		}
		a := apply.Archive{Dir: dir}
		if a.Apply(t.Context(), offer(t, "1.0.0", tarOf(t, files("1.0.0")...))) != nil {
			continue // not even the first one fits
		}
		version := "2.0.0"
		if err := a.Apply(t.Context(), offer(t, version, tarOf(t, files(version)...))); err != nil {
			if !errors.Is(err, syscall.ENOSPC) || code(err) != 5 {
				t.Fatalf("%d KiB: %v, code %d", kib, err, code(err))
			}
			failed++
			version = "1.0.0"
			want(t, "versions", strings.Contains(names(t, filepath.Join(dir, "versions")), ".unpacking"), false)
		} else {
			taken++
		}
		for _, f := range files(version) {
			wantFile(t, filepath.Join(dir, "current", f.name), f.content)
		}
	}
	if failed == 0 || taken == 0 {
		t.Errorf("%d sizes were too small, %d were not; want both", failed, taken)
	}
}
