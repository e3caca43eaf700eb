package download_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nebraska/omahaclient/internal/download"
)

// Whatever is planted under the names that a download uses: nothing outside of its folder changes, and it ends well.
func TestFetch_plantedLinks(t *testing.T) {
	data := blob(size)
	precious := []byte("precious")
	for _, kind := range []string{"symlink", "symlink inside", "dangling symlink", "hard link", "folder"} {
		for _, what := range []string{"finished", "partial", "tag"} {
			t.Run(what+" is a "+kind, func(t *testing.T) {
				h := newHost(data, cut(30_000))
				job := newJob(t, data, h.serve(t))
				names := map[string]string{"finished": job.Name, "partial": download.PartialName(job), "tag": download.PartialName(job) + ".tag"}
				at := filepath.Join(job.Root.Name(), names[what])
				victim := filepath.Join(t.TempDir(), "victim")
				if kind == "symlink inside" {
					victim = filepath.Join(job.Root.Name(), "victim")
				}
				if err := os.WriteFile(victim, precious, 0o600); err != nil {
					t.Fatal(err)
				}
				plantLink(t, kind, victim, at)
				got, err := download.Fetch(t.Context(), job)
				if err != nil {
					t.Fatal(err)
				}
				if kind == "symlink inside" {
					if b, err := os.ReadFile(victim); err != nil || !bytes.Equal(b, precious) {
						t.Errorf("the victim is %q, %v", b, err)
					}
					os.Remove(victim)
				}
				isFetched(t, job, got, data)
				if fi, err := job.Root.Lstat(job.Name); err != nil || !fi.Mode().IsRegular() {
					t.Errorf("the finished file is %v, %v", fi.Mode(), err)
				}
				if kind == "symlink inside" || kind == "dangling symlink" {
					return
				}
				if b, err := os.ReadFile(victim); err != nil || !bytes.Equal(b, precious) {
					t.Errorf("the victim is %q, %v", b, err)
				}
			})
		}
	}
}

func plantLink(t *testing.T, kind, victim, at string) {
	t.Helper()
	var err error
	switch kind {
	case "symlink":
		err = os.Symlink(victim, at)
	case "symlink inside":
		err = os.Symlink(filepath.Base(victim), at)
	case "dangling symlink":
		err = os.Symlink(victim+"-not-there", at)
	case "hard link":
		err = os.Link(victim, at)
	case "folder":
		err = os.Mkdir(at, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Cancelled while it hashes what is there: that must not be lost.
func TestFetch_cancelledBeforeItBegins(t *testing.T) {
	data := blob(size)
	job := newJob(t, data, newHost(data).serve(t))
	plant(t, job, data[:60_000])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := download.Fetch(ctx, job); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got := fetched(t, job, data); got.Received != 40_000 {
		t.Errorf("received %d for the rest", got.Received)
	}
}

// Many want one blob: one at a time fetches it, the others are told so, and whoever comes after the end finds it.
func TestFetch_manyWantOne(t *testing.T) {
	data := blob(size)
	h := newHost(data)
	job := newJob(t, data, h.serve(t))
	for range 20 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					_, err := download.Fetch(t.Context(), job)
					if err == nil {
						return
					}
					if !errors.Is(err, download.ErrBusy) {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		fetched(t, job, data)
		if err := job.Root.Remove(job.Name); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.requests()); n != 20 {
		t.Errorf("%d requests for 20 rounds", n)
	}
}

func TestFetch_folderIsGone(t *testing.T) {
	data := blob(size)
	job := newJob(t, data, newHost(data).serve(t))
	if err := os.RemoveAll(job.Root.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := download.Fetch(t.Context(), job); err == nil || errors.Is(err, download.ErrBusy) {
		t.Errorf("error %v", err)
	}
}

func TestFetch_emptyBlob(t *testing.T) {
	for _, hash := range []bool{true, false} {
		job := newJob(t, nil, newHost(nil).serve(t))
		if !hash {
			job.SHA256 = nil
		}
		fetched(t, job, nil)
	}
}

func TestFetch_folderInTheWay(t *testing.T) {
	data := blob(size)
	for _, hash := range []bool{true, false} {
		job := newJob(t, data, newHost(data).serve(t))
		if !hash {
			job.SHA256 = nil
		}
		if err := os.MkdirAll(filepath.Join(job.Root.Name(), job.Name, "full"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := download.Fetch(t.Context(), job); err == nil || !strings.Contains(err.Error(), job.Name) {
			t.Errorf("error %v", err)
		}
	}
}

// fullAfter is a disk that takes n bytes more.
func fullAfter(n int, cause error) func(f *os.File, p []byte, off int64) (int, error) {
	return func(f *os.File, p []byte, off int64) (int, error) {
		take := min(len(p), n)
		n -= take
		k, err := f.WriteAt(p[:take], off)
		if err == nil && take < len(p) {
			err = &os.PathError{Op: "write", Path: f.Name(), Err: cause}
		}
		return k, err
	}
}

func TestFetch_diskGetsFull(t *testing.T) {
	data := blob(size)
	h := newHost(data)
	job := newJob(t, data, h.serve(t), h.serve(t))
	_, err := download.Fetch(t.Context(), download.WithWrite(job, fullAfter(30_500, syscall.ENOSPC)))
	isFull(t, job, err, 30_500)
	if n := len(h.requests()); n != 1 {
		t.Errorf("%d requests: another mirror does not help", n)
	}
	if got := fetched(t, job, data); got.Received != size-30_500 {
		t.Errorf("received %d for the rest", got.Received)
	}
}

// isFull checks that a fetch ended with a full disk and left kept bytes.
func isFull(t *testing.T, job download.Job, err error, kept int64) {
	t.Helper()
	if !errors.Is(err, download.ErrNoSpace) || !strings.Contains(err.Error(), job.Root.Name()) {
		t.Fatalf("error %v", err)
	}
	if fi, err := job.Root.Stat(download.PartialName(job)); err != nil || fi.Size() != kept {
		t.Fatalf("the partial file is gone or not %d bytes: %v, %v", kept, fi, err)
	}
}

func TestFetch_diskFails(t *testing.T) {
	data := blob(size)
	job := newJob(t, data, newHost(data).serve(t))
	_, err := download.Fetch(t.Context(), download.WithWrite(job, fullAfter(30_500, syscall.EIO)))
	if !errors.Is(err, syscall.EIO) || errors.Is(err, download.ErrNoSpace) {
		t.Errorf("error %v", err)
	}
}

func TestFetch_needsSpaceBeforeItStarts(t *testing.T) {
	data := blob(size)
	const spare = 16 << 20
	for _, tt := range []struct {
		name     string
		free     int64
		left     int
		size     int64
		fits     bool
		requests int
	}{
		{"just enough", spare + size, 0, size, true, 1},
		{"a byte too little", spare + size - 1, 0, size, false, 0},
		{"enough for the rest", spare + 40_000, 60_000, size, true, 1},
		{"not enough for the rest", spare + 39_999, 60_000, size, false, 0},
		{"unknown size, said by the host", spare + size - 1, 0, 0, false, 1},
		{"unknown size, enough", spare + size, 0, 0, true, 1},
		{"nobody can tell", -1, 0, size, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(data)
			job := newJob(t, data, h.serve(t))
			job.Size = tt.size
			if tt.left > 0 {
				plant(t, job, data[:tt.left])
			}
			_, err := download.Fetch(t.Context(), download.WithFree(job, func() int64 { return tt.free }))
			if tt.fits != (err == nil) || !tt.fits && !errors.Is(err, download.ErrNoSpace) {
				t.Errorf("error %v", err)
			}
			if n := len(h.requests()); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
		})
	}
}

// A body without end does not fill the disk: some space stays.
func TestFetch_endlessBodyLeavesSpace(t *testing.T) {
	h := newHost(nil, endless)
	job := newJob(t, nil, h.serve(t))
	free := int64(17 << 20)
	_, err := download.Fetch(t.Context(), download.WithFree(job, func() int64 { free -= 1000; return free }))
	if !errors.Is(err, download.ErrNoSpace) || free < 16<<20-1000 {
		t.Errorf("%d bytes are left, %v", free, err)
	}
}

// The real disk says how much is free, so nothing fits that is larger than all disks.
func TestFetch_asksTheRealDisk(t *testing.T) {
	h := newHost(nil)
	job := newJob(t, nil, h.serve(t))
	job.Size = math.MaxInt64 / 2
	if _, err := download.Fetch(t.Context(), job); !errors.Is(err, download.ErrNoSpace) || len(h.requests()) != 0 {
		t.Errorf("error %v", err)
	}
	if names := files(t, job); !slices.Equal(names, nil) {
		t.Errorf("left: %q", names)
	}
}
