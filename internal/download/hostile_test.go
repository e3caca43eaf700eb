package download_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/download"
)

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
