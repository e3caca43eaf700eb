package testserver_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// Whatever is posted is answered as Nebraska answers: 200 with a declaration and
// perhaps a document that parses, or 400 with nothing.
func FuzzServer_answersAnything(f *testing.F) {
	recorded, err := filepath.Glob("testdata/wire/*.request.xml")
	if err != nil || len(recorded) == 0 {
		f.Fatalf("%d recorded requests, %v", len(recorded), err)
	}
	for _, path := range recorded {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(body))
	}
	f.Fuzz(func(t *testing.T, body string) {
		b := newBench(t)
		b.group(testserver.Policy{SafeMode: true})
		w := b.post("/v1/update/", body)
		rest, declared := strings.CutPrefix(w.Body.String(), declaration)
		switch {
		case w.Code == http.StatusBadRequest && w.Body.Len() == 0:
		case w.Code != http.StatusOK || !declared:
			t.Errorf("%d %q", w.Code, w.Body)
		case rest != "" && !parses(rest):
			t.Errorf("answer does not parse: %q", rest)
		}
	})
}

// Whatever range is asked for, what comes is what Content-Range says.
func FuzzPayloads_ranges(f *testing.F) {
	for _, spec := range []string{"bytes=0-9", "bytes=5-", "bytes=-5", "bytes=-0", "bytes=--5", "bytes=0-9223372036854775807", "bytes=99-", "bytes=1-2,3-4"} {
		f.Add(spec, "some content")
		f.Add(spec, "")
	}
	f.Fuzz(func(t *testing.T, spec, content string) {
		ts := testserver.New()
		ts.Payloads.Put("x", []byte(content))
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r.Header.Set("Range", spec)
		w := httptest.NewRecorder()
		ts.Payloads.ServeHTTP(w, r)
		want := []byte(content)
		switch w.Code {
		case http.StatusPartialContent:
			start, end := rangeOf(t, w.Header().Get("Content-Range"))
			want = want[start:end]
		case http.StatusRequestedRangeNotSatisfiable:
			return
		case http.StatusOK:
		default:
			t.Fatalf("status %d", w.Code)
		}
		if !bytes.Equal(w.Body.Bytes(), want) {
			t.Errorf("%q of %q is %d %q", spec, content, w.Code, w.Body)
		}
	})
}

func rangeOf(t *testing.T, contentRange string) (start, end int) {
	bounds, _, _ := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
	first, last, _ := strings.Cut(bounds, "-")
	start, err := strconv.Atoi(first)
	if err != nil {
		t.Fatalf("Content-Range %q", contentRange)
	}
	end, err = strconv.Atoi(last)
	if err != nil {
		t.Fatalf("Content-Range %q", contentRange)
	}
	return start, end + 1
}
