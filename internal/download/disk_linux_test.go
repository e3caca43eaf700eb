package download_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nebraska/omahaclient/internal/download"
)

// childFetchSmallDisk mounts a small tmpfs over its folder, in a mount namespace of its own, and fetches into that.
func childFetchSmallDisk(args []string) int {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println("no mount:", err)
		return 2
	}
	if err := unix.Mount("small", args[0], "tmpfs", 0, "size=20m,mode=0700"); err != nil {
		fmt.Println("no mount:", err)
		return 2
	}
	return childFetch(args)
}

// A disk that is really full. Where the machine lets nobody mount, TestFetch_diskGetsFull is all there is, and the log says so.
func TestFetch_reallyFullDisk(t *testing.T) {
	data := blob(30 << 20)
	for name, announced := range map[string]int64{"found before": int64(len(data)), "found while writing": 0} {
		t.Run(name, func(t *testing.T) {
			h := newHost(data, chunked(data))
			job := newJob(t, data, h.serve(t))
			job.Size = announced
			cmd := child(t, "fetch onto a small disk", fetchArgs(job)...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			if os.Geteuid() != 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{
					Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
					UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
					GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
				}
			}
			out, err := cmd.Output()
			if err == nil {
				t.Fatal("30 MiB went onto a disk of 20 MiB")
			}
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 2 {
				t.Logf("this machine mounts no tmpfs: %v %s", err, out)
				return
			}
			if !strings.Contains(string(out), download.ErrNoSpace.Error()) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// asNobody runs fn as a user who owns nothing here, if the tests are run by one who may write anywhere.
func asNobody(t *testing.T, dir string, fn func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		fn()
		return
	}
	const nobody = 65534
	for at := dir; len(at) > len(os.TempDir()); at = filepath.Dir(at) {
		if err := os.Chown(at, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread() // the file system's user is this thread's
	defer runtime.UnlockOSThread()
	if err := unix.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setfsuid(0) }()
	fn()
}

func TestFetch_folderIsNotWritable(t *testing.T) {
	data := blob(size)
	h := newHost(data)
	job := newJob(t, data, h.serve(t))
	dir := job.Root.Name()
	asNobody(t, dir, func() {
		for _, mode := range []os.FileMode{0o500, 0o000} {
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			defer os.Chmod(dir, 0o700)
			_, err := download.Fetch(t.Context(), job)
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir) {
				t.Errorf("mode %v: error %v", mode, err)
			}
		}
	})
	if n := len(h.requests()); n != 0 {
		t.Errorf("%d requests before it was known that nothing can be kept", n)
	}
}

// A FIFO or a socket under a download's name would block it for ever.
func TestFetch_plantedPipes(t *testing.T) {
	data := blob(size)
	job := newJob(t, data, newHost(data, cut(10_000)).serve(t))
	for _, name := range []string{job.Name, download.PartialName(job)} {
		if err := unix.Mkfifo(filepath.Join(job.Root.Name(), name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(job.Root.Name(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := job.Root.Rename("sock", download.PartialName(job)+".tag"); err != nil {
		t.Fatal(err)
	}
	fetched(t, job, data)
}
