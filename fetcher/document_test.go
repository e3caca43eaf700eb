package fetcher_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
)

// documents serves each path of answers, and 404 for others.
func documents(t *testing.T, answers map[string]http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := answers[r.URL.Path]; answer != nil {
			answer(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestDocument(t *testing.T) {
	calls := 0
	url := documents(t, map[string]http.HandlerFunc{
		"/good": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("word")) },
		"/cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("half"))
		},
		"/zipped":  func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "gzip") },
		"/exact":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strings.Repeat("x", 100))) },
		"/large":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strings.Repeat("x", 101))) },
		"/chunked": func(w http.ResponseWriter, _ *http.Request) { endless(w) },
		"/moved":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) },
		"/denied":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"/down":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"/shaky": func(w http.ResponseWriter, _ *http.Request) {
			if calls++; calls == 1 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			_, _ = w.Write([]byte("again"))
		},
	})
	h := fetcher.HTTP{RetryWait: time.Millisecond}
	for _, tt := range []struct {
		path, want string
		missing    bool
		err        error
	}{
		{path: "/good", want: "word"},
		{path: "/moved", want: "word"},
		{path: "/shaky", want: "again"},
		{path: "/exact", want: strings.Repeat("x", 100)},
		{path: "/cut", err: io.ErrUnexpectedEOF},
		{path: "/zipped"},
		{path: "/large", err: fetcher.ErrSize},
		{path: "/chunked", err: fetcher.ErrSize},
		{path: "/none", err: fetcher.ErrMissing, missing: true},
		{path: "/denied", err: fetcher.ErrMissing, missing: true},
		{path: "/down"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			got, err := h.Document(t.Context(), url+tt.path, 100)
			if string(got) != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
			if tt.err != nil && !errors.Is(err, tt.err) || errors.Is(err, fetcher.ErrMissing) != tt.missing {
				t.Errorf("error %v, want %v", err, tt.err)
			}
		})
	}
}

// endless goes on until the client has had enough.
func endless(w http.ResponseWriter) {
	for {
		if _, err := w.Write(make([]byte, 1000)); err != nil {
			return
		}
	}
}
