package download_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/download"
)

const size = 100_000

// newJob is a job for data in a new folder, with waits that are short and a buffer that is small.
func newJob(t *testing.T, data []byte, urls ...string) download.Job {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	client := download.NewClient()
	t.Cleanup(client.CloseIdleConnections)
	sum := sha256.Sum256(data)
	return download.Job{
		Root: root, Name: "blob.bin", URLs: urls, Size: int64(len(data)), SHA256: sum[:], Client: client,
		Limits: download.Limits{BufferSize: 1000, RetryWait: time.Millisecond, RetryWaitMax: 2 * time.Millisecond},
	}
}

// files lists what is in the job's folder.
func files(t *testing.T, job download.Job) []string {
	t.Helper()
	all, err := fs.ReadDir(job.Root.FS(), ".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// fetched runs job, which must succeed and leave data and nothing else.
func fetched(t *testing.T, job download.Job, data []byte) download.Result {
	t.Helper()
	got, err := download.Fetch(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	isFetched(t, job, got, data)
	return got
}

func isFetched(t *testing.T, job download.Job, got download.Result, data []byte) {
	t.Helper()
	b, err := job.Root.ReadFile(job.Name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, data) || got.Size != int64(len(data)) || got.SHA256 != sha256.Sum256(data) {
		t.Fatalf("got %d bytes (right: %v), result %d %x", len(b), bytes.Equal(b, data), got.Size, got.SHA256)
	}
	if names := files(t, job); !slices.Equal(names, []string{job.Name}) {
		t.Fatalf("left in the folder: %q", names)
	}
}

func TestFetch_getsWhatIsAnnounced(t *testing.T) {
	for _, n := range []int{1, 999, 1000, 1001, size} {
		data := blob(n)
		h := newHost(data)
		job := newJob(t, data, h.serve(t))
		var last, total int64
		job.Progress = func(d, of int64) {
			if d <= last || of != int64(n) {
				t.Errorf("progress %d of %d after %d", d, of, last)
			}
			last, total = d, of
		}
		got := fetched(t, job, data)
		if got.Received != int64(n) || last != int64(n) || total != int64(n) {
			t.Errorf("received %d, progress %d of %d, want %d", got.Received, last, total, n)
		}
		r := h.requests()
		if len(r) != 1 || r[0].Header.Get("Range") != "" || r[0].Header.Get("Accept-Encoding") != "identity" || r[0].ProtoMajor != 1 {
			t.Errorf("requests: %+v", r)
		}
		if fi, err := job.Root.Stat(job.Name); err != nil || fi.Mode().Perm()&0o177 != 0 {
			t.Errorf("mode %v, %v", fi.Mode(), err)
		}
	}
}

func TestFetch_verifiesWithWhatThereIs(t *testing.T) {
	data := blob(size)
	sum := sha1.Sum(data)
	for _, tt := range []struct {
		name   string
		change func(*download.Job)
		want   error
	}{
		{"unknown size", func(j *download.Job) { j.Size = 0 }, nil},
		{"sha1 only", func(j *download.Job) { j.SHA256, j.SHA1 = nil, sum[:] }, nil},
		{"sha1 only, unknown size", func(j *download.Job) { j.SHA256, j.SHA1, j.Size = nil, sum[:], 0 }, nil},
		{"wrong sha1 beside a right sha256", func(j *download.Job) { j.SHA1 = make([]byte, 20) }, nil},
		{"wrong sha256 beside a right sha1", func(j *download.Job) { j.SHA256, j.SHA1 = make([]byte, 32), sum[:] }, download.ErrDigest},
		{"wrong sha1", func(j *download.Job) { j.SHA256, j.SHA1 = nil, make([]byte, 20) }, download.ErrDigest},
		{"size only", func(j *download.Job) { j.SHA256 = nil }, nil},
		{"nothing", func(j *download.Job) { j.SHA256, j.Size = nil, 0 }, nil},
		{"short sha256", func(j *download.Job) { j.SHA256 = j.SHA256[:31] }, download.ErrDigest},
		{"smaller than announced", func(j *download.Job) { j.Size++ }, download.ErrSize},
		{"larger than announced", func(j *download.Job) { j.Size-- }, download.ErrSize},
		{"negative size", func(j *download.Job) { j.Size = -1 }, download.ErrSize},
		{"announced larger than allowed", func(j *download.Job) { j.Limits.MaxSize = size - 1 }, download.ErrSize},
		{"larger than allowed, unknown size", func(j *download.Job) { j.Limits.MaxSize, j.Size = size-1, 0 }, download.ErrSize},
		{"just allowed", func(j *download.Job) { j.Limits.MaxSize = size }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(data)
			job := newJob(t, data, h.serve(t))
			tt.change(&job)
			if tt.want == nil {
				fetched(t, job, data)
				return
			}
			got, err := download.Fetch(t.Context(), job)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if names := files(t, job); len(names) != 0 {
				t.Errorf("left in the folder: %q", names)
			}
			if n := len(h.requests()); n > 2 {
				t.Errorf("%d requests", n)
			}
			if errors.Is(err, download.ErrSize) && got.Received != 0 {
				t.Errorf("received %d bytes of what cannot be right", got.Received)
			}
		})
	}
}

func TestFetch_unverifiedNeedsAnEnd(t *testing.T) {
	data := blob(size)
	h := newHost(data, raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+string(data[:30_000])))
	job := newJob(t, data, h.serve(t))
	job.SHA256, job.Size = nil, 0
	if _, err := download.Fetch(t.Context(), job); err == nil {
		t.Fatal("a file of unknown size and hash ended with its connection, and was taken")
	}
}

func TestFetch_cancelledBefore(t *testing.T) {
	data := blob(size)
	job := newJob(t, data, newHost(data).serve(t))
	fetched(t, job, data)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := download.Fetch(ctx, job); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestFetch_stopsWithinARead(t *testing.T) {
	data := blob(size)
	h := newHost(data, stall(30_000))
	job := newJob(t, data, h.serve(t))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the user went home")
	job.Progress = func(done, _ int64) {
		if done == 30_000 {
			cancel(why)
		}
	}
	_, err := download.Fetch(ctx, job)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Fatalf("error %v", err)
	}
	job.Progress = nil
	if got := fetched(t, job, data); got.Received != 70_000 {
		t.Errorf("received %d for the rest", got.Received)
	}
}

func TestFetch_oneAtATime(t *testing.T) {
	data := blob(size)
	h := newHost(data, stall(30_000))
	job := newJob(t, data, h.serve(t))
	second := job
	ctx, cancel := context.WithCancel(t.Context())
	job.Progress = func(done, _ int64) {
		if done < 30_000 {
			return
		}
		if _, err := download.Fetch(t.Context(), second); err == nil || !strings.Contains(err.Error(), "another fetch") {
			t.Errorf("a second fetch: %v", err)
		}
		cancel()
	}
	if _, err := download.Fetch(ctx, job); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestFetch_refusesBadJobs(t *testing.T) {
	data := blob(10)
	for _, name := range []string{"", ".", "..", "a/b", "../a", "/etc/passwd", "a.partial", "A.PARTIAL", "a.tag"} {
		job := newJob(t, data, "http://127.0.0.1:1/")
		job.Name = name
		if _, err := download.Fetch(t.Context(), job); err == nil || !strings.Contains(err.Error(), "cannot name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := download.Fetch(t.Context(), download.Job{Name: "a"}); err == nil {
		t.Error("no root was taken")
	}
	if _, err := download.Fetch(t.Context(), newJob(t, data)); err == nil || !strings.Contains(err.Error(), "no URL") {
		t.Errorf("no URL: %v", err)
	}
}
