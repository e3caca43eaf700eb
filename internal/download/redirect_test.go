package download_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/download"
)

func transportOf(c *http.Client) *http.Transport {
	return c.Transport.(*http.Transport)
}

// everywhere makes job find every host at the server's address, by http and, where it speaks TLS, by https.
func everywhere(job *download.Job, plain, secure *httptest.Server) {
	tr := transportOf(job.Client)
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		to := plain
		if strings.HasSuffix(addr, ":443") {
			to = secure
		}
		return (&net.Dialer{}).DialContext(ctx, network, to.Listener.Addr().String())
	}
	tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
}

// hops is a payload host under many names: /to/URL redirects there, everything else is the file.
func hops(h *host) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to, ok := strings.CutPrefix(r.URL.Path, "/to/"); ok {
			h.mu.Lock()
			h.seen = append(h.seen, r)
			h.mu.Unlock()
			w.Header().Set("Location", to)
			w.Header().Set("Set-Cookie", "session=s3cret; Domain=example.com; Path=/")
			w.WriteHeader(http.StatusFound)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func hopsJob(t *testing.T, h *host, url string) download.Job {
	t.Helper()
	plain, secure := httptest.NewServer(hops(h)), httptest.NewTLSServer(hops(h))
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	job := newJob(t, h.data, url)
	everywhere(&job, plain, secure)
	return job
}

func TestFetch_redirects(t *testing.T) {
	data := blob(size)
	for _, tt := range []struct {
		name, url string
		script    []step
		requests  int
		fails     string
	}{
		{"to another host", "http://a.example/to/http://b.example/f", nil, 2, ""},
		{"relative", "http://a.example/to//f", nil, 2, ""},
		{"up to https", "http://a.example/to/https://b.example/f", nil, 2, ""},
		{"https to https", "https://a.example/to/https://b.example/f", nil, 2, ""},
		{"https to http", "https://a.example/to/http://a.example/f", nil, 1, "https to http"},
		{"up and down again", "http://a.example/to/https://b.example/to/http://c.example/f", nil, 2, "https to http"},
		{"ten", "http://a.example" + strings.Repeat("/to/http://a.example", 10) + "/f", nil, 11, ""},
		{"eleven", "http://a.example" + strings.Repeat("/to/http://a.example", 11) + "/f", nil, 11, "more than 10 redirects"},
		{"loop", "http://a.example/f", times(99, status(302, "Location", "/f")), 11, "more than 10 redirects"},
		{"to a file", "http://a.example/to/file:///etc/passwd", nil, 1, "not supported"},
		{"to ftp", "http://a.example/to/ftp://b.example/f", nil, 1, "not supported"},
		{"to no host", "http://a.example/to/http:///f", nil, 1, "names no host"},
		{"to nowhere", "http://a.example/f", []step{status(302)}, 1, "redirected to nowhere"},
		{"to junk", "http://a.example/f", []step{status(302, "Location", "http://b.example:x/%zz")}, 1, "redirected to nowhere"},
		{"301", "http://a.example/f", []step{status(301, "Location", "g")}, 2, ""},
		{"303", "http://a.example/f", []step{status(303, "Location", "g")}, 2, ""},
		{"307", "http://a.example/f", []step{status(307, "Location", "g")}, 2, ""},
		{"308", "http://a.example/f", []step{status(308, "Location", "g")}, 2, ""},
		{"300", "http://a.example/f", []step{status(300, "Location", "g")}, 1, "300"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(data, tt.script...)
			job := hopsJob(t, h, tt.url)
			if tt.fails == "" {
				fetched(t, job, data)
			} else if _, err := download.Fetch(t.Context(), job); err == nil || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("error %v", err)
			}
			if n := len(h.requests()); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
		})
	}
}

func TestFetch_resumesBehindARedirect(t *testing.T) {
	data := blob(size)
	h := newHost(data, cut(30_000))
	fetched(t, hopsJob(t, h, "http://a.example/to/http://b.example/f"), data)
	if got := strings.Join(h.ranges(), " "); got != "  bytes=30000-99999 bytes=30000-99999" {
		t.Errorf("asked for %q", got)
	}
}

// What a mirror may know: its own credentials, and what Authorize gives it. A subdomain is another host, another port too.
func TestFetch_inheritsNoCredentials(t *testing.T) {
	data := blob(size)
	for _, target := range []string{"http://sub.example.com/f", "http://other.example/f", "http://example.com:81/f", "https://example.com/f", "http://u:p@other.example/f"} {
		h := newHost(data)
		job := hopsJob(t, h, "http://user:s3cret@example.com/to/"+target)
		var asked []string
		job.Authorize = func(r *http.Request) error {
			asked = append(asked, r.URL.Scheme+"://"+r.Host)
			if r.URL.User != nil {
				t.Error("the URL's user is in there twice")
			}
			if r.Host == "example.com" && r.URL.Scheme == "http" {
				r.Header.Set("X-Token", "s3cret")
				r.Header.Set("Cookie", "a=s3cret")
			}
			return nil
		}
		fetched(t, job, data)
		r := h.requests()
		if len(r) != 2 || len(asked) != 2 {
			t.Fatalf("%s: %d requests, authorized %q", target, len(r), asked)
		}
		if user, pw, _ := r[0].BasicAuth(); user != "user" || pw != "s3cret" || r[0].Header.Get("X-Token") == "" {
			t.Errorf("%s: its own credentials are missing: %v", target, r[0].Header)
		}
		for _, k := range []string{"Authorization", "X-Token", "Cookie", "Referer", "Proxy-Authorization"} {
			if r[1].Header.Get(k) != "" {
				t.Errorf("%s inherited %s: %q", target, k, r[1].Header.Get(k))
			}
		}
	}
}

func TestFetch_authorizesRedirectTarget(t *testing.T) {
	data := blob(size)
	h := newHost(data)
	job := hopsJob(t, h, "http://a.example/to/http://b.example/f")
	job.Authorize = func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer for "+r.Host)
		return nil
	}
	fetched(t, job, data)
	for i, want := range []string{"Bearer for a.example", "Bearer for b.example"} {
		if got := h.requests()[i].Header.Get("Authorization"); got != want {
			t.Errorf("request %d: %q", i, got)
		}
	}
}

func TestFetch_sameHostKeepsTheMirrorsUser(t *testing.T) {
	data := blob(size)
	h := newHost(data)
	fetched(t, hopsJob(t, h, "http://user:s3cret@example.com/to//f"), data)
	if user, _, _ := h.requests()[1].BasicAuth(); user != "user" {
		t.Error("lost on the way")
	}
}

func TestFetch_challenge(t *testing.T) {
	data := blob(size)
	token := "old"
	h := newHost(data, cut(30_000))
	guard := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer new" && (got != "Bearer old" || r.Header.Get("Range") != "") {
			w.Header().Set("WWW-Authenticate", "Bearer realm=x")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
	srv := httptest.NewServer(guard)
	defer srv.Close()
	job := newJob(t, data, srv.URL)
	job.Authorize = func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
	challenges := 0
	job.Challenge = func(resp *http.Response) error {
		if resp.Header.Get("WWW-Authenticate") == "" {
			t.Error("no challenge")
		}
		challenges++
		token = "new"
		return nil
	}
	fetched(t, job, data)
	if challenges != 1 {
		t.Errorf("%d challenges", challenges)
	}

	job = newJob(t, data, srv.URL) // a hook that cannot help is not asked for ever
	job.Challenge = func(*http.Response) error { challenges++; return nil }
	if _, err := download.Fetch(t.Context(), job); err == nil || !strings.Contains(err.Error(), "401") || challenges != 2 {
		t.Errorf("%d challenges, %v", challenges, err)
	}
}

func TestFetch_authorizeFails(t *testing.T) {
	data := blob(size)
	broken := errors.New("no keyring")
	h := newHost(data)
	job := newJob(t, data, h.serve(t))
	job.Authorize = func(*http.Request) error { return broken }
	if _, err := download.Fetch(t.Context(), job); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if n := len(h.requests()); n != 0 {
		t.Errorf("%d requests went out without credentials", n)
	}
}

func TestFetch_untrustedCertificate(t *testing.T) {
	data := blob(size)
	bad := httptest.NewUnstartedServer(newHost(data))
	bad.Config.ErrorLog = quiet()
	bad.StartTLS()
	defer bad.Close()
	h := newHost(data)
	fetched(t, newJob(t, data, bad.URL, h.serve(t)), data)
	_, err := download.Fetch(t.Context(), newJob(t, data, bad.URL))
	var unknown *tls.CertificateVerificationError
	if !errors.As(err, &unknown) {
		t.Errorf("error %v", err)
	}
}
