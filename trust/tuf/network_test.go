package tuf_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/trust"
	"github.com/nebraska/omahaclient/trust/tuf"
)

// wonders fails the test unless the question stays open.
func (c *client) wonders(version, want string) {
	c.t.Helper()
	_, err := c.verify(version, file("app.bin"))
	if err == nil || errors.Is(err, trust.ErrUntrusted) || !strings.Contains(err.Error(), want) {
		c.t.Errorf("got %v; want it open, with %q", err, want)
	}
}

func TestNetwork_endlessData(t *testing.T) {
	for _, name := range []string{"2.root.json", "timestamp.json", "3.snapshot.json"} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			r.publish()
			files := r.saved()
			sent := make(chan int, 9)
			r.answer(func(w http.ResponseWriter, req *http.Request) {
				asked := strings.TrimPrefix(req.URL.Path, "/metadata/")
				if asked != name {
					data, ok := files[asked]
					if !ok {
						http.NotFound(w, req)
					}
					_, _ = w.Write(data)
					return
				}
				n, block := 0, []byte(strings.Repeat(" ", 4096))
				for err := error(nil); err == nil; n += len(block) {
					_, err = w.Write(block)
				}
				sent <- n
			})
			r.client(func(config *tuf.Config) { config.MaxMetadata = 10_000 }).refuses(trust.ErrMalformed)
			<-sent // it ends, as the client hangs up
		})
	}
}

// Lengths that a stolen key announces are no excuse.
func TestNetwork_announcedLength(t *testing.T) {
	r := newRepo(t)
	r.timestamp.Signed.Meta["snapshot.json"].Length = 1 << 50
	r.publishTimestamp()
	r.put(fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version), make([]byte, 20_000))
	r.client(func(config *tuf.Config) { config.MaxMetadata = 10_000 }).refuses(trust.ErrMalformed)
	r.timestamp.Signed.Meta["snapshot.json"].Length = -5
	r.publishTimestamp()
	r.client().refuses(trust.ErrMalformed)
}

func TestNetwork_slow(t *testing.T) {
	r := newRepo(t)
	r.answer(func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	c := r.client(func(config *tuf.Config) { config.Timeout = 20 * time.Millisecond })
	c.wonders("1.0.0", "the repository took more than 20ms")
}

// A body that trickles is as slow as a head that does not come.
func TestNetwork_trickles(t *testing.T) {
	r := newRepo(t)
	r.answer(func(w http.ResponseWriter, req *http.Request) {
		_, _ = w.Write([]byte(" "))
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	})
	c := r.client(func(config *tuf.Config) { config.Timeout = 20 * time.Millisecond })
	c.wonders("1.0.0", "the repository took more than 20ms")
}

// Cancelling ends a request at once, and what is cached is not asked.
func TestNetwork_cancelled(t *testing.T) {
	r := newRepo(t)
	c := r.client()
	c.accepts("1.0.0")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	r.answer(func(_ http.ResponseWriter, req *http.Request) {
		cancel(stop)
		<-req.Context().Done()
	})
	if _, err := c.verifier.Verify(ctx, c.claim("1.0.0", file("app.bin"))); !errors.Is(err, stop) || errors.Is(err, trust.ErrUntrusted) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestNetwork_statuses(t *testing.T) {
	r := newRepo(t)
	for _, code := range []int{http.StatusInternalServerError, http.StatusNotFound, http.StatusTooManyRequests, http.StatusForbidden, http.StatusNoContent} {
		r.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		r.client().wonders("1.0.0", fmt.Sprint(code%1000))
	}
}

// Storage services that let nobody list their files answer 403 for a root that does not exist.
func TestNetwork_forbiddenRoot(t *testing.T) {
	r := newRepo(t)
	files := r.saved()
	r.answer(func(w http.ResponseWriter, req *http.Request) {
		data, ok := files[strings.TrimPrefix(req.URL.Path, "/metadata/")]
		if !ok {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = w.Write(data)
	})
	r.client().accepts("1.0.0")
}

func TestNetwork_redirects(t *testing.T) {
	t.Run("followed", func(t *testing.T) {
		r := newRepo(t)
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, r.server.URL+req.URL.Path, http.StatusFound)
		}))
		defer front.Close()
		r.client(func(config *tuf.Config) { config.MetadataURL = front.URL + "/metadata/" }).accepts("1.0.0")
	})
	t.Run("without end", func(t *testing.T) {
		r := newRepo(t)
		r.answer(func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, req.URL.Path+"?token=secret", http.StatusFound)
		})
		c := r.client()
		c.wonders("1.0.0", "more than 10 redirects")
		if n := len(r.asked); n != 11 {
			t.Errorf("%d requests, want 11", n)
		}
		if _, err := c.verify("1.0.0", file("app.bin")); strings.Contains(err.Error(), "secret") {
			t.Errorf("the error has the query: %v", err)
		}
	})
	t.Run("from https to http", func(t *testing.T) {
		r := newRepo(t)
		front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, r.server.URL+req.URL.Path, http.StatusFound)
		}))
		defer front.Close()
		r.client(func(config *tuf.Config) {
			config.MetadataURL, config.HTTPClient = front.URL+"/metadata", front.Client()
		}).wonders("1.0.0", "redirected from https to http")
		if len(r.asked) != 0 {
			t.Errorf("asked for %v over http", r.asked)
		}
	})
	t.Run("the caller's rule", func(t *testing.T) {
		r := newRepo(t)
		r.answer(func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/elsewhere", http.StatusFound) })
		rule := errors.New("not there")
		theirs := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return rule }}
		defer theirs.CloseIdleConnections()
		r.client(func(config *tuf.Config) { config.HTTPClient = theirs }).wonders("1.0.0", rule.Error())
	})
}

// Credentials in the URL are sent, and shown nowhere.
func TestNetwork_credentials(t *testing.T) {
	r := newRepo(t)
	files := r.saved()
	r.answer(func(w http.ResponseWriter, req *http.Request) {
		if _, password, _ := req.BasicAuth(); password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		data, ok := files[strings.TrimPrefix(req.URL.Path, "/metadata/")]
		if !ok {
			http.NotFound(w, req)
		}
		_, _ = w.Write(data)
	})
	withPassword := strings.Replace(r.server.URL, "http://", "http://user:secret@", 1) + "/metadata"
	c := r.client(func(config *tuf.Config) { config.MetadataURL = withPassword })
	if got := c.accepts("1.0.0"); strings.Contains(got.Where, "secret") {
		t.Errorf("Where is %s", got.Where)
	}
	r.server.Close()
	_, err := c.verify("2.0.0", file("app.bin"))
	c.accepts("1.0.0")
	if err == nil || strings.Contains(err.Error()+c.log.String(), "secret") {
		t.Errorf("shown: %v\n%s", err, c.log)
	}
}
