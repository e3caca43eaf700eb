package fetcher_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
)

// HTTP can be registered by value and by pointer.
var _, _ fetcher.Fetcher = fetcher.HTTP{}, &fetcher.HTTP{}

var content = bytes.Repeat([]byte("0123456789abcdef"), 10_000)

// serve serves content and counts the requests.
func serve(t *testing.T) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(s.Close)
	return s.URL + "/update.bin", requests
}

// jobFor is a job for content in a folder that does not exist yet.
func jobFor(t *testing.T, urls ...string) fetcher.Job {
	t.Helper()
	sum := sha256.Sum256(content)
	return fetcher.Job{
		Source:   fetcher.Source{Name: "update.bin", MediaType: "binary", URLs: urls, Size: int64(len(content)), SHA256: sum[:]},
		Dir:      filepath.Join(t.TempDir(), "app", "payload"),
		Progress: func(int64, int64) {},
	}
}

func isContent(t *testing.T, p fetcher.Payload, job fetcher.Job) {
	t.Helper()
	b, err := os.ReadFile(p.Path)
	if err != nil || !bytes.Equal(b, content) {
		t.Fatalf("the file has %d bytes, %v", len(b), err)
	}
	want := fetcher.Payload{
		Name: job.Source.Name, MediaType: job.Source.MediaType, Path: p.Path, Size: int64(len(content)),
		Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(content)),
	}
	if p != want || filepath.Dir(p.Path) != job.Dir {
		t.Errorf("got %+v, want %+v", p, want)
	}
}

func TestHTTP_fetchesAndReturnsAtOnceTheNextTime(t *testing.T) {
	url, requests := serve(t)
	job := jobFor(t, url)
	for range 2 {
		p, err := fetcher.HTTP{}.Fetch(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		isContent(t, p, job)
		if filepath.Base(p.Path) != "update.bin" {
			t.Errorf("path %s", p.Path)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	if runtime.GOOS == "windows" {
		return // it has no such modes
	}
	for path, want := range map[string]os.FileMode{job.Dir: 0o700, filepath.Dir(job.Dir): 0o700, filepath.Join(job.Dir, "update.bin"): 0o600} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v", path, fi.Mode(), err)
		}
	}
}

func TestHTTP_needsAHash(t *testing.T) {
	url, requests := serve(t)
	sum := sha1.Sum(content)
	for _, tt := range []struct {
		name         string
		sha256, sha1 []byte
		unverified   bool
		want         error
	}{
		{"none", nil, nil, false, fetcher.ErrNoHash},
		{"none, taken all the same", nil, nil, true, nil},
		{"sha1", nil, sum[:], false, nil},
		{"sha1 that is junk", nil, []byte("junk"), false, fetcher.ErrNoHash},
		{"sha256 that is junk", []byte("junk"), nil, false, fetcher.ErrNoHash},
		{"sha256 that is junk, beside a sha1", []byte("junk"), sum[:], true, fetcher.ErrNoHash},
		{"wrong although unverified would do", nil, make([]byte, 20), true, fetcher.ErrDigest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requests.Store(0)
			job := jobFor(t, url)
			job.Source.SHA256, job.Source.SHA1 = tt.sha256, tt.sha1
			p, err := fetcher.HTTP{AllowUnverified: tt.unverified}.Fetch(t.Context(), job)
			if tt.want == nil && err == nil {
				isContent(t, p, job)
			} else if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if errors.Is(err, fetcher.ErrNoHash) && requests.Load() != 0 {
				t.Error("it asked all the same")
			}
			if err != nil && p != (fetcher.Payload{}) {
				t.Errorf("an unverified payload was returned: %+v", p)
			}
		})
	}
}

// What nobody can be asked for is no transfer that may go better: it is told apart, with what to correct, and without what is secret in it.
func TestHTTP_needsAnAddress(t *testing.T) {
	url, _ := serve(t)
	for name, tt := range map[string]struct {
		urls []string
		says string // "" where the fetch goes well
	}{
		"none":                  {nil, "add one to the package"},
		"another scheme":        {[]string{"ftp://user:secret@payloads.example/f"}, "http or https"},
		"two other schemes":     {[]string{"ftp://payloads.example/f", "file:///f"}, "nor can 1 more"},
		"a reference":           {[]string{"registry.example/ns/app:1.0.0"}, "WithPayloadType"},
		"a reference with port": {[]string{"127.0.0.1:5000/ns/app:1.0.0"}, "WithPayloadType"},
		"no host":               {[]string{"https:///f"}, "names no host"},
		"no URL":                {[]string{"http://secret:%zz@payloads.example/f"}, "cannot be parsed"},
		"one is good":           {[]string{"ftp://payloads.example/f", url}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			job := jobFor(t, url)
			job.Source.URLs = tt.urls
			p, err := fetcher.HTTP{}.Fetch(t.Context(), job)
			if tt.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				isContent(t, p, job)
				return
			}
			if !errors.Is(err, fetcher.ErrBadURL) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v; want %q in it, and no secret", err, tt.says)
			}
		})
	}
}

// Names are labels: whatever a server says, one file is written, in the payload's own folder.
func TestHTTP_writesNowhereElse(t *testing.T) {
	url, _ := serve(t)
	for _, label := range hostile {
		job := jobFor(t, url)
		job.Source.Name = label
		p, err := fetcher.HTTP{}.Fetch(t.Context(), job)
		if err != nil {
			t.Fatalf("%q: %v", label, err)
		}
		isContent(t, p, job)
		var all []string
		err = filepath.WalkDir(filepath.Dir(filepath.Dir(job.Dir)), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				all = append(all, path)
			}
			return err
		})
		if err != nil || len(all) != 1 || all[0] != p.Path {
			t.Errorf("%q wrote %q, %v", label, all, err)
		}
	}
}

func TestHTTP_failsInKinds(t *testing.T) {
	url, _ := serve(t)
	stuck := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(stuck.Close)
	empty := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(empty.Close)
	missing := empty.URL
	quick := fetcher.HTTP{Tries: 1, RetryWait: time.Millisecond}
	impatient := fetcher.HTTP{Tries: 1, StallTimeout: 10 * time.Millisecond}
	for _, tt := range []struct {
		name   string
		with   fetcher.HTTP
		change func(*fetcher.Job)
		want   error
	}{
		{"size", quick, func(j *fetcher.Job) { j.Source.Size++ }, fetcher.ErrSize},
		{"negative size", quick, func(j *fetcher.Job) { j.Source.Size = -5 }, fetcher.ErrSize},
		{"limit", fetcher.HTTP{MaxSize: 1000}, func(*fetcher.Job) {}, fetcher.ErrSize},
		{"digest", quick, func(j *fetcher.Job) { j.Source.SHA256 = make([]byte, 32) }, fetcher.ErrDigest},
		{"slow", impatient, func(j *fetcher.Job) { j.Source.URLs = []string{stuck.URL} }, fetcher.ErrTooSlow},
		{"404", quick, func(j *fetcher.Job) { j.Source.URLs = []string{missing} }, nil},
		{"no URL", quick, func(j *fetcher.Job) { j.Source.URLs = nil }, nil},
		{"no folder", quick, func(j *fetcher.Job) { j.Dir = "" }, nil},
		{"a file for a folder", quick, func(j *fetcher.Job) {
			j.Dir = filepath.Join(t.TempDir(), "file")
			_ = os.WriteFile(j.Dir, nil, 0o600)
		}, nil},
		{"a file URL", quick, func(j *fetcher.Job) { j.Source.URLs = []string{"file:///etc/passwd"} }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			job := jobFor(t, url)
			tt.change(&job)
			_, err := tt.with.Fetch(t.Context(), job)
			if err == nil || !strings.Contains(err.Error(), `"update.bin"`) {
				t.Fatalf("error %v", err)
			}
			for _, kind := range []error{fetcher.ErrSize, fetcher.ErrDigest, fetcher.ErrTooSlow, fetcher.ErrNoHash, fetcher.ErrNoSpace, fetcher.ErrUnsupportedType} {
				if errors.Is(err, kind) != errors.Is(tt.want, kind) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
			}
		})
	}
}

func TestHTTP_stopsWithItsContext(t *testing.T) {
	url, _ := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (fetcher.HTTP{}).Fetch(ctx, jobFor(t, url)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestHTTP_manyAtOnce(t *testing.T) {
	url, requests := serve(t)
	h := &fetcher.HTTP{}
	var wg sync.WaitGroup
	for range 8 {
		job := jobFor(t, url)
		wg.Go(func() {
			p, err := h.Fetch(t.Context(), job)
			if err != nil {
				t.Error(err)
				return
			}
			isContent(t, p, job)
		})
	}
	wg.Wait()
	if n := requests.Load(); n != 8 {
		t.Errorf("%d requests", n)
	}
}

// A client that was made for something else cannot make a download unsafe: it is its transport that counts.
func TestHTTP_usesTheTransportAlone(t *testing.T) {
	url, _ := serve(t)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("it came with %v", r.Header)
		}
		http.Redirect(w, r, url, http.StatusFound)
	}))
	defer target.Close()
	var used, followed atomic.Int64
	client := &http.Client{
		Transport:     counting{&used},
		Timeout:       time.Nanosecond,
		CheckRedirect: func(*http.Request, []*http.Request) error { followed.Add(1); return nil },
	}
	job := jobFor(t, target.URL)
	p, err := fetcher.HTTP{Client: client}.Fetch(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	isContent(t, p, job)
	if used.Load() != 2 || followed.Load() != 0 {
		t.Errorf("the transport was used %d times, CheckRedirect %d times", used.Load(), followed.Load())
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

type counting struct{ n *atomic.Int64 }

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}
