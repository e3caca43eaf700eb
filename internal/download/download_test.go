package download_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
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

// Each row is one thing that hosts do. It says how the download ends, and which ranges it asks for.
func TestFetch_hostileHost(t *testing.T) {
	data := blob(size)
	rest := func(n int) string { return fmt.Sprintf("bytes=%d-%d", n, size-1) }
	partial := func(contentRange string, body []byte) step {
		return raw(fmt.Sprintf("HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: %s\r\n\r\n%s", len(body), contentRange, body))
	}
	for _, tt := range []struct {
		name   string
		script []step
		ranges []string // of each request
		want   error    // nil: success; errAny: a failed transfer
	}{
		{"FIN", []step{cut(30_000)}, []string{"", rest(30_000)}, nil},
		{"FIN again and again", times(20, cut(4_000)), nil, nil},
		{"FIN before the first byte, too often", times(5, cut(0)), times5(""), errAny},
		{"FIN before the first byte, not too often", times(4, cut(0)), times5(""), nil},
		{"a byte resets the count", slices.Concat(times(4, cut(0)), []step{cut(1000)}, times(3, cut(0))), nil, nil},
		{"RST", []step{reset(30_000)}, []string{"", rest(30_000)}, nil},
		{"RST before the answer", []step{raw("")}, []string{"", ""}, nil},
		{"corrupt once", []step{corrupt}, []string{"", ""}, nil},
		{"corrupt always", times(9, corrupt), []string{"", ""}, download.ErrDigest},
		{"corrupt after a cut", []step{cut(30_000), corrupt}, []string{"", rest(30_000), ""}, nil},
		{"range ignored", []step{cut(30_000), whole(size)}, []string{"", rest(30_000)}, nil},
		{"range ignored, cut off always", times(99, whole(30_000)), []string{"", rest(30_000), rest(30_000), rest(30_000), rest(30_000)}, errAny},
		{"206 begins elsewhere", []step{cut(30_000), partial("bytes 0-99999/100000", data)}, []string{"", rest(30_000), ""}, nil},
		{"206 begins later", []step{cut(30_000), partial("bytes 30001-99999/100000", data[30_001:])}, []string{"", rest(30_000), ""}, nil},
		{"206 without Content-Range", []step{cut(30_000), raw("HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nhello")}, []string{"", rest(30_000), ""}, nil},
		{"206 of another length", []step{cut(30_000), partial("bytes 30000-99999/100000", data[:10])}, []string{"", rest(30_000), ""}, nil},
		{"206 of a larger file", times(9, partialAfter(30_000, "bytes 30000-99999/100001")), []string{"", rest(30_000), rest(30_000)}, download.ErrSize},
		{"206 of a file of unknown size", []step{cut(30_000), partial("bytes 30000-99999/*", data[30_000:])}, []string{"", rest(30_000)}, nil},
		{"206 of less than asked for", []step{cut(30_000), partial("bytes 30000-39999/100000", data[30_000:40_000])}, []string{"", rest(30_000), rest(40_000)}, nil},
		{"206 that nobody asked for", []step{partial("bytes 0-99999/100000", data)}, []string{""}, errAny},
		{"416 of a smaller file", times(9, tooFar(30_000, "bytes */20000")), []string{"", rest(30_000), rest(30_000)}, download.ErrSize},
		{"416 for no reason", []step{cut(30_000), status(416)}, []string{"", rest(30_000), ""}, nil},
		{"416 to a whole request", []step{status(416)}, []string{""}, errAny},
		{"length too short", times(9, raw("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"+string(data))), []string{"", ""}, download.ErrSize},
		{"length too long", times(9, raw("HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n"+string(data))), []string{"", ""}, download.ErrSize},
		{"length lies once", []step{raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")}, []string{"", ""}, nil},
		{"no length", []step{raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + string(data))}, []string{""}, nil},
		{"no length, cut", []step{raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + string(data[:30_000]))}, []string{"", rest(30_000)}, nil},
		{"chunked", []step{chunked(data)}, []string{""}, nil},
		{"chunked, ends early", []step{chunked(data[:30_000])}, []string{"", ""}, nil},
		{"chunked, ends early always", times(9, chunked(data[:30_000])), []string{"", ""}, download.ErrSize},
		{"one byte too many", times(9, chunked(append(bytes.Clone(data), 'x'))), []string{"", ""}, download.ErrSize},
		{"endless", times(9, endless), []string{"", ""}, download.ErrSize},
		{"gzip", []step{status(200, "Content-Encoding", "gzip")}, []string{""}, errAny},
		{"identity", []step{identity}, []string{""}, nil},
		{"404", []step{status(404)}, []string{""}, errAny},
		{"401", []step{status(401)}, []string{""}, errAny},
		{"304", []step{status(304)}, []string{""}, errAny},
		{"204", []step{status(204)}, []string{""}, errAny},
		{"408 and 5xx pass", []step{status(408), status(500), status(502), status(504)}, times5(""), nil},
		{"429 and 503 pass", []step{status(429), status(503), status(503, "Retry-After", "junk"), status(429, "Retry-After", "0")}, times5(""), nil},
		{"500 always", times(9, status(500)), times5(""), errAny},
		{"no HTTP", []step{raw("220 mail.example ESMTP\r\n")}, []string{"", ""}, nil},
		{"endless header", []step{raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20))}, []string{"", ""}, nil},
		{"another file between", []step{cut(30_000), changed}, []string{"", rest(30_000), ""}, nil},
		{"another ETag in a 206", []step{cut(30_000), otherETag}, []string{"", rest(30_000), ""}, nil},
		{"cut and corrupt in turn", cutAndCorrupt(50), []string{"", rest(30_000), "", rest(30_000), "", rest(30_000)}, download.ErrDigest},
		{"stays corrupt after a cut", append([]step{cut(30_000)}, times(9, corrupt)...), []string{"", rest(30_000), "", ""}, download.ErrDigest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(data, tt.script...)
			job := newJob(t, data, h.serve(t))
			job.Progress = h.progress
			got, err := download.Fetch(t.Context(), job)
			switch {
			case tt.want == nil && err == nil:
				isFetched(t, job, got, data)
			case tt.want == nil || err == nil:
				t.Fatalf("error %v, want %v", err, tt.want)
			case errors.Is(tt.want, errAny):
				for _, e := range []error{download.ErrSize, download.ErrDigest, download.ErrTooSlow, download.ErrNoSpace} {
					if errors.Is(err, e) {
						t.Errorf("error %v is also %v", err, e)
					}
				}
			case !errors.Is(err, tt.want):
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if got := h.ranges(); tt.ranges != nil && !slices.Equal(got, tt.ranges) {
				t.Errorf("asked for %q, want %q", got, tt.ranges)
			}
			if err != nil && slices.Contains(files(t, job), job.Name) {
				t.Error("there is a finished file")
			}
			if errors.Is(err, download.ErrDigest) && len(files(t, job)) != 0 {
				t.Errorf("left after a mismatch: %q", files(t, job))
			}
		})
	}
}

var errAny = errors.New("any")

func times5(s string) []string { return []string{s, s, s, s, s} }

// partialAfter cuts a whole request after n bytes and answers the next one with a 206 of that Content-Range.
func partialAfter(n int, contentRange string) step {
	return func(h *host, w http.ResponseWriter, r *http.Request) {
		if from(r) == 0 {
			cut(n)(h, w, r)
			return
		}
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(h.data[n:])
	}
}

func tooFar(n int, contentRange string) step {
	return func(h *host, w http.ResponseWriter, r *http.Request) {
		if from(r) == 0 {
			cut(n)(h, w, r)
			return
		}
		status(416, "Content-Range", contentRange)(h, w, r)
	}
}

func chunked(data []byte) step {
	return func(_ *host, w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(data)
	}
}

func endless(_ *host, w http.ResponseWriter, _ *http.Request) {
	for chunk := blob(1000); ; {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func identity(h *host, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Encoding", "identity")
	honest(h, w, r)
}

// changed answers as a host whose file changed: If-Range does not match, so all of it comes. (The file is the right one now.)
func changed(h *host, w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("If-Range") != `"v1"` {
		panic("no If-Range")
	}
	r.Header.Del("Range")
	h.etag = `"v2"`
	cut(0)(h, w, r)
}

// otherETag ignores If-Range, and tells by another ETag that this is another file.
func otherETag(h *host, w http.ResponseWriter, r *http.Request) {
	h.etag = `"v2"`
	_, _ = w.Write(head(h, w, r))
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

func TestFetch_unverifiedResumesTheSameFileOnly(t *testing.T) {
	data := blob(size)
	for _, tt := range []struct{ name, etag, second string }{
		{"strong ETag", `"v1"`, "bytes=30000-99999"},
		{"weak ETag", `W/"v1"`, ""},
		{"no ETag", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(data, cut(30_000))
			h.etag = tt.etag
			job := newJob(t, data, h.serve(t))
			job.SHA256 = nil
			fetched(t, job, data)
			if got := h.ranges(); !slices.Equal(got, []string{"", tt.second}) {
				t.Errorf("asked for %q", got)
			}
			if got := h.requests()[1].Header.Get("If-Range"); (got != "") != (tt.second != "") {
				t.Errorf("If-Range %q", got)
			}
		})
	}
}

func cutAndCorrupt(n int) (script []step) {
	for range n {
		script = append(script, cut(30_000), corrupt)
	}
	return script
}

// All bytes came, but not the end: the answer 416 tells that nothing is missing.
func TestFetch_onlyTheEndIsMissing(t *testing.T) {
	data := blob(size)
	for _, hash := range []bool{true, false} {
		h := newHost(data, func(h *host, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", h.etag)
			_, _ = w.Write(h.data)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		job := newJob(t, data, h.serve(t))
		job.Size = 0
		if !hash {
			job.SHA256 = nil
		}
		if got := fetched(t, job, data); got.Received != size || len(h.requests()) != 2 {
			t.Errorf("received %d in %d requests", got.Received, len(h.requests()))
		}
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

func TestFetch_isFinishedAlready(t *testing.T) {
	data := blob(size)
	h := newHost(data)
	job := newJob(t, data, h.serve(t))
	fetched(t, job, data)
	done := int64(0)
	job.Progress = func(d, _ int64) { done = d }
	if got := fetched(t, job, data); got.Received != 0 || done != size {
		t.Errorf("received %d, progress %d", got.Received, done)
	}
	if n := len(h.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	for _, bad := range [][]byte{nil, data[:10], append(bytes.Clone(data), 'x'), append([]byte("x"), data[1:]...)} {
		if err := job.Root.WriteFile(job.Name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := fetched(t, job, data); got.Received != size {
			t.Errorf("received %d although the file was spoilt", got.Received)
		}
	}
}

// plant writes the partial file that an earlier fetch left.
func plant(t *testing.T, job download.Job, b []byte) {
	t.Helper()
	if err := job.Root.WriteFile(download.PartialName(job), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFetch_resumesFromPartialFile(t *testing.T) {
	data := blob(size)
	flipped := bytes.Clone(data)
	flipped[17] ^= 1
	for _, tt := range []struct {
		name   string
		left   []byte
		size   int64
		ranges []string
	}{
		{"half", data[:50_000], size, []string{"bytes=50000-99999"}},
		{"half, unknown size", data[:50_000], 0, []string{"bytes=50000-"}},
		{"all", data, size, nil},
		{"all, unknown size", data, 0, nil},
		{"empty", nil, size, []string{""}},
		{"spoilt half", flipped[:50_000], size, []string{"bytes=50000-99999", ""}},
		{"spoilt whole", flipped, size, []string{""}},
		{"spoilt whole, unknown size", flipped, 0, []string{"bytes=100000-", ""}},
		{"too long", append(bytes.Clone(data), 'x'), size, []string{""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(data)
			job := newJob(t, data, h.serve(t))
			job.Size = tt.size
			plant(t, job, tt.left)
			fetched(t, job, data)
			if got := h.ranges(); !slices.Equal(got, tt.ranges) {
				t.Errorf("asked for %q, want %q", got, tt.ranges)
			}
		})
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
