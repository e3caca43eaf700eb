package download_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/download"
)

// nowhere is a URL where nobody listens.
func nowhere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/files/blob.bin"
}

// Each row scripts some mirrors and says how many requests each of them gets; the last one is honest after its script.
func TestFetch_mirrors(t *testing.T) {
	data := blob(size)
	always := func(s step) []step { return times(99, s) }
	for _, tt := range []struct {
		name     string
		scripts  [][]step
		requests []int
		want     error
	}{
		{"the first one does", [][]step{nil, nil}, []int{1, 0}, nil},
		{"404 is final", [][]step{always(status(404)), nil}, []int{1, 1}, nil},
		{"corrupt: the next at once", [][]step{always(corrupt), nil}, []int{1, 1}, nil},
		{"wrong size: the next at once", [][]step{always(chunked(data[:10])), nil}, []int{1, 1}, nil},
		{"endless: the next at once", [][]step{always(endless), nil}, []int{1, 1}, nil},
		{"gzip: the next at once", [][]step{always(status(200, "Content-Encoding", "gzip")), nil}, []int{1, 1}, nil},
		{"5xx: the next after a few", [][]step{always(status(500)), nil}, []int{5, 1}, nil},
		{"asks to be left alone: the next meanwhile", [][]step{always(status(503, "Retry-After", "60")), nil}, []int{1, 1}, nil},
		{"all corrupt: one second chance", [][]step{always(corrupt), always(corrupt), always(corrupt)}, []int{2, 1, 1}, download.ErrDigest},
		{"the only good one is corrupt once", [][]step{always(status(404)), {corrupt}}, []int{1, 2}, nil},
		{"all fail", [][]step{always(status(404)), always(status(500)), always(corrupt)}, []int{1, 5, 2}, download.ErrDigest},
		{"the second goes on where the first stopped", [][]step{slices.Concat([]step{cut(40_000)}, always(cut(0))), nil}, []int{5, 1}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var hosts []*host
			job := newJob(t, data)
			for _, script := range tt.scripts {
				h := newHost(data, script...)
				hosts = append(hosts, h)
				job.URLs = append(job.URLs, h.serve(t))
			}
			got, err := download.Fetch(t.Context(), job)
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				isFetched(t, job, got, data)
			} else if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			for i, h := range hosts {
				if n := len(h.requests()); n != tt.requests[i] {
					t.Errorf("mirror %d got %d requests, want %d", i, n, tt.requests[i])
				}
				if err != nil && !strings.Contains(err.Error(), job.URLs[i]) {
					t.Errorf("the error does not tell of %s: %v", job.URLs[i], err)
				}
			}
		})
	}
}

func TestFetch_secondMirrorGetsNoValidatorOfTheFirst(t *testing.T) {
	data := blob(size)
	first, second := newHost(data, cut(40_000), status(404)), newHost(data)
	fetched(t, newJob(t, data, first.serve(t), second.serve(t)), data)
	if r := first.requests()[1]; r.Header.Get("If-Range") != `"v1"` {
		t.Errorf("first: If-Range %q", r.Header.Get("If-Range"))
	}
	if r := second.requests()[0]; r.Header.Get("If-Range") != "" || r.Header.Get("Range") != "bytes=40000-99999" {
		t.Errorf("second: If-Range %q, Range %q", r.Header.Get("If-Range"), r.Header.Get("Range"))
	}
}

func TestFetch_unreachableMirror(t *testing.T) {
	data := blob(size)
	h := newHost(data)
	dead := nowhere(t)
	fetched(t, newJob(t, data, dead, h.serve(t)), data)

	tries := 0
	job := newJob(t, data, "http://a.example/", "http://b.example/", "http://c.example/")
	client, end := serveInMemory(newHost(data))
	defer end()
	tr := transportOf(client)
	dial := tr.DialContext
	var dialed []string
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed = append(dialed, addr[:1])
		if tries++; tries <= 4 {
			return nil, &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}
		}
		return dial(ctx, network, addr)
	}
	job.Client = client
	fetched(t, job, data)
	if got := strings.Join(dialed, ""); got[:3] != "abc" || len(got) != 5 {
		t.Errorf("dialed %s", got)
	}
}

func TestFetch_unusableURLs(t *testing.T) {
	data := blob(size)
	bad := []string{
		"", "blob.bin", "/etc/passwd", "file:///etc/passwd", "ftp://mirror.example/x", "data:,x", "javascript:alert(1)",
		"http://", "http:///x", "https://:443/x", "http://mirror.example:port/x", "http://[::1/x", "http://mirror.example/%zz", "\x00",
		"oci://registry.example/x", "HTTP://",
	}
	job := newJob(t, data, bad...)
	_, err := download.Fetch(t.Context(), job)
	var all *download.Error
	if !errors.As(err, &all) || len(all.Mirrors) != len(bad) {
		t.Fatalf("error %v", err)
	}
	for _, m := range all.Mirrors {
		if m.Tries != 0 || m.Err == nil {
			t.Errorf("%s: %d tries, %v", m.URL, m.Tries, m.Err)
		}
	}
	if len(err.Error()) > 2000 {
		t.Errorf("%d bytes of error", len(err.Error()))
	}
	fetched(t, newJob(t, data, append(bad, newHost(data).serve(t))...), data)
}

func TestFetch_tellsNoSecrets(t *testing.T) {
	data := blob(size)
	h := newHost(data, times(99, status(404))...)
	url := strings.Replace(h.serve(t), "http://", "http://user:s3cret@", 1) + "?token=s3cret#s3cret"
	away := func(to string) string {
		return newHost(data, times(99, status(302, "Location", to))...).serve(t)
	}
	var log bytes.Buffer
	job := newJob(t, data, url, strings.Replace(nowhere(t), "http://", "http://user:s3cret@", 1)+"?s3cret",
		"http://user:s3cret@mirror.example:port/", "ftp://user:s3cret@mirror.example/?s3cret",
		away("ftp://user:s3cret@mirror.example/?s3cret"), away(nowhere(t)+"?s3cret"), away("http://user:s3cret@mirror.example:s3cret/%zz?s3cret"))
	job.Logger = slog.New(slog.NewTextHandler(&log, nil))
	_, err := download.Fetch(t.Context(), job)
	var all *download.Error
	if !errors.As(err, &all) {
		t.Fatalf("error %v", err)
	}
	for _, m := range all.Mirrors {
		if s := m.URL + m.Err.Error(); strings.Contains(s, "s3cret") {
			t.Errorf("it is out: %s", s)
		}
	}
	if log.Len() == 0 || strings.Contains(log.String(), "s3cret") {
		t.Errorf("log: %s", log.String())
	}
}
