package download_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/download"
)

// roundTrip is a http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Whatever bytes a host answers with, and whatever an earlier fetch left behind: what is called finished is the blob, and nothing else was
// written than the finished file, a partial one and its tag.
func FuzzAnswer(f *testing.F) {
	content := []byte("the blob that was announced")
	sum := sha256.Sum256(content)
	head := "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\n"
	rest := "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 3-26/27\r\n\r\n"
	for _, s := range []string{
		head + "Content-Length: 27\r\n\r\n" + string(content), head + "Transfer-Encoding: chunked\r\n\r\n1b\r\n" + string(content) + "\r\n0\r\n\r\n",
		rest + string(content[3:]), "HTTP/1.1 416 No\r\nContent-Range: bytes */27\r\n\r\n", "HTTP/1.1 302 There\r\nLocation: https://b.example/f\r\n\r\n",
		"HTTP/1.1 503 Later\r\nRetry-After: 1\r\n\r\n", head + "Content-Encoding: gzip\r\n\r\n", "HTTP/1.1 404 None\r\n\r\n", head + "Content-Length: 9999999999\r\n\r\n",
	} {
		f.Add([]byte(s), []byte(nil), []byte(nil))
		f.Add([]byte(s), content[:3], []byte("\n\"v1\""))
		f.Add([]byte(s), content, []byte("x"))
	}
	f.Fuzz(func(t *testing.T, raw, partial, tag []byte) {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		asked := 0
		job := download.Job{
			Root: root, Name: "blob", URLs: []string{"http://a.example/f", "http://b.example/f"}, Size: int64(len(content)), SHA256: sum[:],
			Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				asked++
				return http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), r)
			})},
			Limits: download.Limits{Tries: 1, RetryWait: 1, RetryWaitMax: 1, MaxRetryAfter: 1, BufferSize: 1 << 10, GiveUp: time.Second},
		}
		name := filepath.Join(dir, download.PartialName(job))
		if partial != nil {
			write(t, name, partial)
			write(t, name+".tag", tag)
		}
		_, err = download.Fetch(t.Context(), job)
		got, missing := os.ReadFile(filepath.Join(dir, "blob"))
		switch {
		case err == nil && !bytes.Equal(got, content):
			t.Errorf("finished as %q, %v", got, missing)
		case err != nil && !errors.Is(missing, os.ErrNotExist):
			t.Errorf("it failed (%v), and left %q", err, got)
		case asked > 100:
			t.Errorf("%d requests", asked)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 3 {
			t.Errorf("%v, %v", entries, err)
		}
	})
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
