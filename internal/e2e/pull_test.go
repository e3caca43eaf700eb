package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// oci knows nothing of this machine's settings.
func oci() fetcher.OCI {
	return fetcher.OCI{
		Platform: "linux/amd64", MirrorsDir: os.DevNull, RetryWait: 10 * time.Millisecond,
		Credentials: func(context.Context, string) (fetcher.Credential, error) {
			return fetcher.Credential{Username: user, Password: password}, nil
		},
	}
}

func newJob(tb testing.TB, ref string) fetcher.Job {
	tb.Helper()
	dir := tb.TempDir()
	return fetcher.Job{
		Source: fetcher.Source{Name: "app", URLs: []string{ref}},
		Dir:    filepath.Join(dir, "dir"), Shared: filepath.Join(dir, "shared"),
		Progress: func(int64, int64) {},
	}
}

func pull(t *testing.T, o fetcher.OCI, job fetcher.Job) fetcher.Payload {
	t.Helper()
	p, err := o.Fetch(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(p.Path, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(p.Path, "blobs", "sha256", e.Name()))
		if err != nil || digest.FromBytes(content).Encoded() != e.Name() {
			t.Errorf("blob %s is not what it should be: %v", e.Name(), err)
		}
		size += int64(len(content))
	}
	if size != p.Size {
		t.Errorf("%d bytes in the layout, the payload says %d", size, p.Size)
	}
	var index ocispec.Index
	raw, err := os.ReadFile(filepath.Join(p.Path, "index.json"))
	if err != nil || json.Unmarshal(raw, &index) != nil || len(index.Manifests) != 1 || !strings.HasSuffix(p.Reference, index.Manifests[0].Digest.String()) {
		t.Errorf("index.json is %s, %v", raw, err)
	}
	return p
}

// pushed makes an image of two layers in an index.
func (s *store) pushed() (testregistry.Image, string) {
	img := s.PushImage(repo, "linux/amd64", noise(1, 3_000_000), noise(2, 500_000))
	other := s.PushImage(repo, "linux/arm64", noise(3, 1000))
	return img, "/" + repo + "@" + s.PushIndex(repo, other.Manifest, img.Manifest).Digest.String()
}

func TestPull(t *testing.T) {
	s := newStore(t)
	_, path := s.pushed()
	t.Run("anonymous", func(t *testing.T) {
		pull(t, oci(), newJob(t, serve(t, distribution(s.dir, nil))+path))
	})
	t.Run("with a password", func(t *testing.T) {
		pull(t, oci(), newJob(t, serve(t, distribution(s.dir, withPassword(t)))+path))
	})
	t.Run("with a wrong password", func(t *testing.T) {
		o := oci()
		o.Credentials = func(context.Context, string) (fetcher.Credential, error) {
			return fetcher.Credential{Username: user, Password: "guess"}, nil
		}
		if _, err := o.Fetch(t.Context(), newJob(t, serve(t, distribution(s.dir, withPassword(t)))+path)); err == nil {
			t.Error("it got in")
		}
	})
	t.Run("with a token", func(t *testing.T) {
		tokens := newTokens(t, time.Hour)
		pull(t, oci(), newJob(t, serve(t, distribution(s.dir, tokens.auth(t)))+path))
		if len(tokens.issued) != 1 {
			t.Errorf("%d tokens for one pull", len(tokens.issued))
		}
	})
}

func TestPull_tokenExpiresInALayer(t *testing.T) {
	s := newStore(t)
	img, path := s.pushed()
	tokens := newTokens(t, time.Second)
	layer := img.Layers[0].Digest.String()
	front := testregistry.In(distribution(s.dir, tokens.auth(t)))
	front.Spoil(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, layer) && r.Header.Get("Range") == "" && r.Header.Get("Authorization") != "" {
			testregistry.Cut(2_000_000, false)(held{w, func() { tokens.expired(r.Context()) }}, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
	pull(t, oci(), newJob(t, serve(t, front)+path))
	if len(tokens.issued) < 2 {
		t.Errorf("%d tokens: none expired", len(tokens.issued))
	}
	if got := front.Bytes(layer); got >= 4_000_000 { // and the bodies of 401s
		t.Errorf("%d bytes of the layer came", got)
	}
}

// held runs a function after the body's bytes were flushed, before the connection is cut.
type held struct {
	http.ResponseWriter
	then func()
}

func (h held) FlushError() error {
	err := http.NewResponseController(h.ResponseWriter).Flush()
	h.then()
	return err
}

func TestPull_TLS(t *testing.T) {
	s := newStore(t)
	_, path := s.pushed()
	server := httptest.NewTLSServer(distribution(s.dir, withPassword(t)))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	t.Run("unknown authority", func(t *testing.T) {
		o := oci()
		o.Tries = 1
		if _, err := o.Fetch(t.Context(), newJob(t, "https://"+host+path)); err == nil {
			t.Error("it was trusted")
		}
	})
	t.Run("the program's client", func(t *testing.T) {
		pool := x509.NewCertPool()
		pool.AddCert(server.Certificate())
		o := oci()
		o.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
		defer o.Client.CloseIdleConnections()
		pull(t, o, newJob(t, "https://"+host+path))
	})
	t.Run("the node's hosts.toml", func(t *testing.T) {
		dir := t.TempDir()
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		for name, content := range map[string]string{"ca.pem": string(certificate), "hosts.toml": "server = \"https://" + host + "\"\nca = \"ca.pem\"\n"} {
			if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, host, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o := oci()
		o.MirrorsDir = dir
		pull(t, o, newJob(t, host+path))
	})
}

// Each of these happens once in each blob and manifest.
func TestPull_faults(t *testing.T) {
	s := newStore(t)
	img, path := s.pushed()
	_, index, _ := strings.Cut(path, "@")
	parts := []string{index, img.Manifest.Digest.String(), img.Config.Digest.String(), img.Layers[0].Digest.String(), img.Layers[1].Digest.String()}
	for name, f := range map[string]testregistry.Front{
		"corrupt":              testregistry.Corrupt(),
		"FIN":                  testregistry.Cut(100, false),
		"RST":                  testregistry.Cut(100, true),
		"stall":                testregistry.Stall(100),
		"503":                  testregistry.Answer(http.StatusServiceUnavailable),
		"429 with Retry-After": testregistry.Answer(http.StatusTooManyRequests, "Retry-After", "1"),
		"wrong Content-Type":   testregistry.Edit(func(h http.Header, b []byte) []byte { h.Set("Content-Type", "text/html"); return b }),
		"416": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			testregistry.Cut(50, false)(w, r, next)
		},
		"Range ignored": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			r.Header.Del("Range")
			testregistry.Cut(300, false)(w, r, next)
		},
	} {
		t.Run(name, func(t *testing.T) {
			front := testregistry.In(distribution(s.dir, nil))
			spoil := testregistry.Honest
			times := 1
			if name == "416" {
				times = 2 // it takes a cut to be asked for a range
			}
			for _, part := range parts {
				spoil = testregistry.Both(spoil, testregistry.Times(times, part, f))
			}
			front.Spoil(spoil)
			o := oci()
			o.StallTimeout = 200 * time.Millisecond
			pull(t, o, newJob(t, serve(t, front)+path))
		})
	}
}

func TestPull_refuses(t *testing.T) {
	s := newStore(t)
	img, path := s.pushed()
	long := testregistry.Edit(func(h http.Header, b []byte) []byte {
		h.Del("Content-Length")
		return append(b, make([]byte, 1<<20)...)
	})
	swapped := testregistry.Edit(func(h http.Header, _ []byte) []byte {
		h.Del("Content-Length")
		return []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{},"layers":[]}`)
	})
	for _, c := range []struct {
		name, part string
		front      testregistry.Front
		is         error
	}{
		{"a swapped index", "/manifests/", swapped, fetcher.ErrDigest},
		{"a swapped manifest", img.Manifest.Digest.String(), swapped, fetcher.ErrSize},
		{"a layer bomb", img.Layers[1].Digest.String(), long, fetcher.ErrSize},
		{"a corrupt layer", img.Layers[1].Digest.String(), testregistry.Corrupt(), fetcher.ErrDigest},
	} {
		t.Run(c.name, func(t *testing.T) {
			front := testregistry.In(distribution(s.dir, nil))
			front.Spoil(testregistry.Times(1000, c.part, c.front))
			job := newJob(t, serve(t, front)+path)
			if _, err := oci().Fetch(t.Context(), job); !errors.Is(err, c.is) {
				t.Error(err)
			}
			if _, err := os.Lstat(filepath.Join(job.Dir, "image", "index.json")); err == nil {
				t.Error("half an image has an index.json")
			}
		})
	}
}

func TestPull_mendsABitFlip(t *testing.T) {
	s := newStore(t)
	img, path := s.pushed()
	front := testregistry.In(distribution(s.dir, nil))
	job := newJob(t, serve(t, front)+path)
	p := pull(t, oci(), job)
	file := filepath.Join(p.Path, "blobs", "sha256", img.Layers[1].Digest.Encoded())
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content[1000] ^= 8
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	front.Spoil(nil)
	pull(t, oci(), job)
	if got := front.Bytes(""); got != 500_000 {
		t.Errorf("%d bytes came, the layer has 500,000", got)
	}
}

func TestPull_goesOnWhereItWasCut(t *testing.T) {
	s := newStore(t)
	img, path := s.pushed()
	front := testregistry.In(distribution(s.dir, nil))
	front.Spoil(testregistry.Times(1, img.Layers[0].Digest.String(), testregistry.Cut(2_500_000, false)))
	pull(t, oci(), newJob(t, serve(t, front)+path))
	if got := front.Bytes("/blobs/" + img.Layers[0].Digest.String()); got != 3_000_000 {
		t.Errorf("%d bytes of 3,000,000 came", got)
	}
}

func TestPull_secondRelease(t *testing.T) {
	s := newStore(t)
	_, path := s.pushed()
	front := testregistry.In(distribution(s.dir, nil))
	host := serve(t, front)
	job := newJob(t, host+path)
	pull(t, oci(), job)
	second := s.PushImage(repo, "linux/amd64", noise(1, 3_000_000), noise(4, 600_000))
	front.Spoil(nil)
	job.Source.URLs = []string{host + "/" + repo + "@" + second.Manifest.Digest.String()}
	job.Dir += "2"
	pull(t, oci(), job)
	if got, want := front.Bytes(""), 600_000+second.Config.Size+second.Manifest.Size; got != want {
		t.Errorf("%d bytes came, want %d", got, want)
	}
}
