package download_test

import (
	"bytes"
	"net/http"
	"slices"
	"testing"

	"github.com/nebraska/omahaclient/internal/download"
)

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
