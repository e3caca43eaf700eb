package omahaclient_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// Credentials for the Omaha server, and what servers name their files.

const (
	token    = "omaha-t0ken"
	password = "omaha-passw0rd"
	secret   = "omaha-s3cret"
)

// credentials are every way of giving the Omaha server some.
func credentials(jar http.CookieJar) []omahaclient.Option {
	transport := &http.Transport{}
	return []omahaclient.Option{
		omahaclient.WithAuthorization(func(r *http.Request) error {
			r.Header.Set("X-Token", token)
			r.AddCookie(&http.Cookie{Name: "session", Value: token})
			return nil
		}),
		omahaclient.WithHTTPClient(&http.Client{Jar: jar, Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Set("X-Transport", token)
			resp, err := transport.RoundTrip(r)
			transport.CloseIdleConnections()
			return resp, err
		})}),
	}
}

// seen are the headers and addresses of requests, as one text.
type seen struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (s *seen) note(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.WriteString(r.Method + " " + r.Host + r.URL.String() + "\n")
	_ = r.Header.Write(&s.text)
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func TestCredentials_neverReachAPayloadHost(t *testing.T) {
	for _, tc := range []struct {
		name string
		// redirect is what the payload host answers first, by the base URLs of the Omaha server and of itself.
		redirect func(omaha, payloads string) string
	}{
		{"directly", nil},
		{"by a redirect to itself", func(_, payloads string) string { return payloads + "elsewhere" }},
		{"by a redirect to the Omaha server", func(omaha, _ string) string { return omaha + "files/app.bin" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var asked, served seen
			ts := testserver.New()
			must(t, ts.Start()) // for its payload host
			defer ts.Close()
			body := []byte("payload")
			// The Omaha server has files too, as servers behind one proxy have.
			front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/files/") {
					served.note(r)
					rw.Write(body)
					return
				}
				asked.note(r)
				http.SetCookie(rw, &http.Cookie{Name: "jar", Value: token, Path: "/"})
				ts.ServeHTTP(rw, r)
			}))
			defer front.Close()
			ts.AddGroup(appA, track, testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{
				Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: body}},
			})
			ts.Payloads.Put("elsewhere", body)
			if tc.redirect != nil {
				ts.Payloads.Fail(fileOf(appA, "2.0.0"), 1, testserver.FileFault{Redirect: tc.redirect(front.URL+"/", ts.Payloads.URL())})
			}
			jar, err := cookiejar.New(nil)
			must(t, err)
			book := &logbook{}
			opts := append(
				credentials(jar), app(appA), quick(), omahaclient.WithStateDir(t.TempDir()),
				omahaclient.WithLogger(slog.New(slog.NewTextHandler(book, &slog.HandlerOptions{Level: slog.LevelDebug}))),
			)
			endpoint := strings.Replace(front.URL, "://", "://joe:"+password+"@", 1) + "/v1/update/?key=" + secret
			c, err := omahaclient.New(endpoint, opts...)
			must(t, err)
			w := &world{Server: ts, t: t, patience: 60e9}
			s := w.updates(c)
			o := s.next()
			must(t, o.Ack(nil))
			s.stop()
			must(t, c.Close())

			for _, r := range ts.Payloads.Requests() {
				served.text.WriteString("\n" + r.Path + "\n")
				_ = r.Header.Write(&served.text)
			}
			if served.String() == "" {
				t.Fatal("nothing was fetched")
			}
			for _, credential := range []string{token, password, secret, "Authorization", "Cookie", "Referer", "X-Transport"} {
				if strings.Contains(served.String(), credential) {
					t.Errorf("a payload host saw %q:\n%s", credential, served.String())
				}
			}
			for _, credential := range []string{"X-Token", "X-Transport", "Authorization: Basic", secret, "jar=" + token} {
				if !strings.Contains(asked.String(), credential) {
					t.Errorf("the Omaha server did not see %q: this test cannot fail", credential)
				}
			}
			for _, credential := range []string{token, password, secret} {
				if strings.Contains(book.String(), credential) {
					t.Errorf("the log shows %q:\n%s", credential, book)
				}
			}
		})
	}
}

// An Omaha server that redirects to another host sends no credentials there, nor anything else.
func TestCredentials_neverFollowARedirectOfTheOmahaServer(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		var elsewhere seen
		other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { elsewhere.note(r) }))
		front := httptest.NewServer(http.RedirectHandler(other.URL+"/v1/update/", code))
		c, err := omahaclient.New(front.URL, append(credentials(nil), app(appA), omahaclient.WithStateDir(t.TempDir()))...)
		must(t, err)
		if err := c.CheckNow(t.Context()); err == nil || !strings.Contains(err.Error(), other.URL) {
			t.Errorf("%d: error %v; want one that names %s", code, err, other.URL)
		}
		must(t, c.Close())
		front.Close()
		other.Close()
		want(t, "seen elsewhere", elsewhere.String(), "")
	}
}

// Names are labels: whatever a server calls its files, they land in folders below the state directory.
func TestNames_writeNothingOutsideTheStateDir(t *testing.T) {
	names := []string{
		"../evil", "../../../../../../../evil", "/evil", "//evil", "a/../../evil", "./evil", "..", ".", "/", "a/b/c", `..\..\evil`, `C:\evil`, `\\host\evil`,
		"%2e%2e/%2e%2e/evil", "..%2fevil", "evil\n", " ", "evil ", "evil.", "con", "NUL.txt", "a:b", "journal.db", "machine-id", "../journal.db",
		"~/evil", "$HOME/evil", strings.Repeat("long", 100), strings.Repeat("../", 50) + "evil", "\u202eevil", "evil\u0000", "app.bin.partial", "ünïcode", "-rf",
		"http://payloads.test/../../evil",
	}
	inBubble(t, func(t *testing.T, w *world) {
		base := t.TempDir()
		w.dir = filepath.Join(base, "a", "b", "state")
		wd, err := os.Getwd()
		must(t, err)
		files := func(dir string) string {
			var list []string
			must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
				if path == filepath.Join(base, "a", "b", "state") {
					return fs.SkipDir
				}
				list = append(list, path)
				return err
			}))
			return strings.Join(list, "\n")
		}
		body := []byte("payload")
		w.Payloads.FailFunc(func(testserver.FileRequest) testserver.FileFault { return testserver.FileFault{Content: body} })
		g := w.group(appA)
		c := w.client(app(appA))
		s := w.updates(c)
		before, beforeHere := files(base), files(wd)
		for i, name := range names {
			list := []testserver.File{{Name: name, Content: body}, {Name: "/etc/" + name, Content: body}}
			g.Publish(testserver.Release{Version: fmt.Sprintf("2.0.%d", i), AnyVersion: true, Files: list})
			o := s.next()
			want(t, "payloads", len(o.Payloads), len(list))
			for _, p := range o.Payloads {
				rel, err := filepath.Rel(w.dir, p.Path)
				if err != nil || !filepath.IsLocal(rel) || !strings.HasPrefix(rel, "payloads"+string(filepath.Separator)) {
					t.Errorf("%q lands at %s", name, p.Path)
				}
				wantFile(t, p.Path, body)
			}
			must(t, o.Ack(nil))
		}
		want(t, "files beside the state directory", files(base), before)
		want(t, "files in the working directory", files(wd), beforeHere)
		for _, path := range []string{"/evil", "/etc/evil"} {
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%s is there", path)
			}
		}
		s.stop()
		must(t, c.Close())
		must(t, w.client(app(appA)).Close()) // the journal is unharmed
	})
}

// A server cannot have the client read this machine's files.
func TestNames_areFetchedByHTTPOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private")
	must(t, os.WriteFile(path, []byte("payload"), 0o600))
	for _, scheme := range []string{"file://", "ftp://", "unix://", "gopher://"} {
		inBubble(t, func(t *testing.T, w *world) {
			w.group(appA).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: scheme + path, Content: []byte("payload")}}})
			w.updates(w.client(app(appA)))
			want(t, "code", w.reaches(appA, testserver.Error).ErrorCode, 34)
		})
	}
}
