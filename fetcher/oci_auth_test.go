package fetcher_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

const user, password = "robot", "s3cret"

// basic lets in who knows the password.
func basic(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	next.ServeHTTP(w, r)
}

// tokens is a token service beside a registry. Each token is good for a number of requests.
type tokens struct {
	*httptest.Server
	uses int

	mu     sync.Mutex // guards what follows
	issued int
	left   map[string]int
}

func newTokens(t *testing.T, uses int) *tokens {
	t.Helper()
	s := &tokens{uses: uses, left: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if u, p, ok := r.BasicAuth(); !ok || u != user || p != password || r.URL.Query().Get("scope") != "repository:ns/app:pull" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued++
	token := "token-" + strconv.Itoa(s.issued)
	s.left[token] = s.uses
	fmt.Fprintf(w, `{"token":%q}`, token)
}

// front lets in who has a good token.
func (s *tokens) front(w http.ResponseWriter, r *http.Request, next http.Handler) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	good := s.left[token] > 0
	s.left[token]--
	s.mu.Unlock()
	if !good {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token",service="registry",scope="repository:ns/app:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	next.ServeHTTP(w, r)
}

// known returns the credentials for these hosts, and nothing for others.
func known(hosts ...string) func(context.Context, string) (fetcher.Credential, error) {
	return func(_ context.Context, host string) (fetcher.Credential, error) {
		if slices.Contains(hosts, host) {
			return fetcher.Credential{Username: user, Password: password}, nil
		}
		return fetcher.Credential{}, nil
	}
}

func TestOCI_logsIn(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 10_000), noise(2, 20_000))
	ref := h.ref("ns/app", img.Manifest)
	t.Run("with the program's credentials", func(t *testing.T) {
		h.Spoil(basic)
		o := quickOCI()
		o.Credentials = known(h.host())
		mustPull(t, o, newImageJob(t, ref))
	})
	t.Run("with Docker's configuration", func(t *testing.T) {
		h.Spoil(basic)
		dir := t.TempDir()
		t.Setenv("DOCKER_CONFIG", dir)
		auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths":{"`+h.host()+`":{"auth":"`+auth+`"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		o := quickOCI()
		o.Credentials = nil
		mustPull(t, o, newImageJob(t, ref))
	})
	t.Run("with a token that expires", func(t *testing.T) {
		s := newTokens(t, 2)
		h.Spoil(s.front)
		o := quickOCI()
		o.Credentials, o.Streams = known(h.host()), 1
		mustPull(t, o, newImageJob(t, ref))
		if s.issued < 2 {
			t.Errorf("%d tokens", s.issued)
		}
	})
	t.Run("with a token that expires in the middle of a layer", func(t *testing.T) {
		s := newTokens(t, 3) // manifest, config, and the first part of a layer
		path := img.Layers[1].Digest.String()
		h.Spoil(testregistry.Both(s.front, testregistry.Times(1, path, testregistry.Cut(15_000, false))))
		o := quickOCI()
		o.Credentials, o.Streams = known(h.host()), 1
		mustPull(t, o, newImageJob(t, ref))
		if got := h.Bytes(path); got != 20_000 {
			t.Errorf("%d bytes of the layer came", got)
		}
	})
}

func TestOCI_refusedCredentials(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 10_000))
	s := newTokens(t, 1)
	broken := errors.New("the vault is closed")
	for name, c := range map[string]struct {
		front testregistry.Front
		creds func(context.Context, string) (fetcher.Credential, error)
	}{
		"no password": {basic, known()},
		"a wrong password": {basic, func(context.Context, string) (fetcher.Credential, error) {
			return fetcher.Credential{Username: "x", Password: "y"}, nil
		}},
		"no token":           {s.front, known()},
		"a vault in trouble": {s.front, func(context.Context, string) (fetcher.Credential, error) { return fetcher.Credential{}, broken }},
	} {
		t.Run(name, func(t *testing.T) {
			h.Spoil(c.front)
			o := quickOCI()
			o.Credentials = c.creds
			_, err := o.Fetch(t.Context(), newImageJob(t, h.ref("ns/app", img.Manifest)))
			if err == nil || name == "a vault in trouble" && !errors.Is(err, broken) {
				t.Fatal(err)
			}
			if name != "a vault in trouble" && len(h.Gets("")) > 2 {
				t.Errorf("asked again and again: %q", h.asked(""))
			}
			if strings.Contains(err.Error(), password) {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

// A registry that redirects to a blob store, as most do, must not make us show its credentials there; nor to a mirror.
func TestOCI_keepsCredentialsToTheirHost(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 10_000))
	var seen []http.Header
	var mu sync.Mutex
	note := func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header.Clone())
	}
	blobs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(noise(1, 10_000)))
	}))
	defer blobs.Close()
	greedy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r)
		w.Header().Set("WWW-Authenticate", `Basic realm="give me all"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer greedy.Close()
	redirect := testregistry.Answer(http.StatusTemporaryRedirect, "Location", blobs.URL+"/data?signature=1")
	h.Spoil(testregistry.Both(basic, testregistry.Times(1, img.Layers[0].Digest.String(), redirect)))
	o := quickOCI()
	o.Credentials = known(h.host())
	o.MirrorsDir = mirrored(t, h.host(), `[host."`+greedy.URL+`"]`)
	mustPull(t, o, newImageJob(t, h.ref("ns/app", img.Manifest)))
	if len(seen) < 2 {
		t.Errorf("%d requests elsewhere", len(seen))
	}
	for _, header := range seen {
		if header.Get("Authorization") != "" {
			t.Errorf("shown elsewhere: %v", header)
		}
	}
}

// A blob store that asks for credentials gets none.
func TestOCI_blobStoreGetsNoCredentials(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 10_000))
	var asked []string
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Authorization"))
		w.Header().Set("WWW-Authenticate", `Basic realm="store"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer store.Close()
	h.Spoil(testregistry.Both(basic, testregistry.Times(1, img.Layers[0].Digest.String(), testregistry.Answer(http.StatusFound, "Location", store.URL))))
	o := quickOCI()
	o.Credentials = func(context.Context, string) (fetcher.Credential, error) {
		return fetcher.Credential{Username: user, Password: password}, nil
	}
	if _, err := o.Fetch(t.Context(), newImageJob(t, h.ref("ns/app", img.Manifest))); err == nil || len(asked) != 1 || asked[0] != "" {
		t.Errorf("%v, %q", err, asked)
	}
}
