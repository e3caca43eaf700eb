package fetcher_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/fetcher"
)

// hub is go-containerregistry's registry on loopback, with a script of faults in front. It refuses open ranges, as some real
// registries do.
type hub struct {
	*httptest.Server
	t    *testing.T
	real http.Handler

	mu     sync.Mutex // guards what follows
	front  func(w http.ResponseWriter, r *http.Request, next http.Handler)
	seen   []*http.Request
	served map[string]int64 // body bytes by path
}

// front spoils requests; it calls next to answer honestly.
type front = func(w http.ResponseWriter, r *http.Request, next http.Handler)

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t, real: registry.New(registry.Logger(log.New(io.Discard, "", 0))), served: map[string]int64{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	front := h.front
	h.seen = append(h.seen, r.Clone(context.Background()))
	h.mu.Unlock()
	count := &counter{ResponseWriter: w, add: func(n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.served[r.URL.Path] += int64(n)
	}}
	if front == nil {
		h.real.ServeHTTP(count, r)
		return
	}
	front(count, r, h.real)
}

type counter struct {
	http.ResponseWriter
	add func(n int)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.add(n)
	return n, err
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// spoil sets what stands in front of the registry and forgets the requests so far.
func (h *hub) spoil(f front) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.front, h.seen, h.served = f, nil, map[string]int64{}
}

// gets lists the GET requests since spoil whose path has this part, as "path range".
func (h *hub) gets(part string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, r := range h.seen {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, part) {
			all = append(all, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
		}
	}
	return all
}

// bytes is how many body bytes were served since spoil for paths that have this part.
func (h *hub) bytes(part string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var sum int64
	for path, n := range h.served {
		if strings.Contains(path, part) {
			sum += n
		}
	}
	return sum
}

func (h *hub) host() string { return strings.TrimPrefix(h.URL, "http://") }

// honest is no fault.
func honest(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }

// once spoils the first request whose path has this part.
func once(part string, f front) front {
	var mu sync.Mutex
	done := false
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		mine := !done && strings.Contains(r.URL.Path, part)
		done = done || mine
		mu.Unlock()
		if mine {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// recorded answers honestly into memory.
func recorded(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	return rec
}

func replay(w http.ResponseWriter, rec *httptest.ResponseRecorder, body []byte) {
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body)
}

// push puts a blob or manifest into the registry and returns its descriptor.
func (h *hub) pushBlob(repo, mediaType string, content []byte) ocispec.Descriptor {
	h.t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	h.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.Digest.String(), "application/octet-stream", content)
	return d
}

func (h *hub) pushManifest(repo, ref, mediaType string, content any) ocispec.Descriptor {
	h.t.Helper()
	raw, ok := content.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(content); err != nil {
			h.t.Fatal(err)
		}
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if ref == "" {
		ref = d.Digest.String()
	}
	h.do(http.MethodPut, "/v2/"+repo+"/manifests/"+ref, mediaType, raw)
	return d
}

func (h *hub) do(method, path, contentType string, body []byte) {
	h.t.Helper()
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	if rec := recorded(r, h.real); rec.Code != http.StatusCreated {
		h.t.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
}

// testImage is an image in a hub.
type testImage struct {
	repo     string
	manifest ocispec.Descriptor
	config   ocispec.Descriptor
	layers   []ocispec.Descriptor
	contents [][]byte
}

// bytes is the size of all parts but the manifests.
func (i testImage) bytes() int64 {
	n := i.config.Size
	for _, l := range i.layers {
		n += l.Size
	}
	return n
}

// pushImage builds an image for a platform of these layers.
func (h *hub) pushImage(repo, platform string, layers ...[]byte) testImage {
	h.t.Helper()
	os, arch, _ := strings.Cut(platform, "/")
	arch, variant, _ := strings.Cut(arch, "/")
	img := testImage{repo: repo, contents: layers}
	config := ocispec.Image{Platform: ocispec.Platform{OS: os, Architecture: arch, Variant: variant}, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
		img.layers = append(img.layers, h.pushBlob(repo, ocispec.MediaTypeImageLayer, l))
	}
	raw, err := json.Marshal(config)
	if err != nil {
		h.t.Fatal(err)
	}
	img.config = h.pushBlob(repo, ocispec.MediaTypeImageConfig, raw)
	img.manifest = h.pushManifest(repo, "", ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: img.config, Layers: img.layers,
	})
	img.manifest.Platform = &config.Platform
	return img
}

// pushIndex makes an index of images.
func (h *hub) pushIndex(repo string, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	h.t.Helper()
	return h.pushManifest(repo, "", ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
}

// ref is the reference of something in a repository of this hub.
func (h *hub) ref(repo string, d ocispec.Descriptor) string {
	return h.host() + "/" + repo + "@" + d.Digest.String()
}

// noise returns n bytes that differ for each seed.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// newImageJob is a job with folders of its own for a reference.
func newImageJob(t *testing.T, refs ...string) fetcher.Job {
	t.Helper()
	dir := t.TempDir()
	return fetcher.Job{
		Source:   fetcher.Source{Name: "image", MediaType: "application/vnd.oci.image", URLs: refs},
		Dir:      filepath.Join(dir, "payloads", "app", "0"),
		Shared:   filepath.Join(dir, "shared"),
		Progress: func(int64, int64) {},
	}
}

// quickOCI is an OCI that knows nothing of this machine's settings and does not wait long.
func quickOCI() fetcher.OCI {
	return fetcher.OCI{
		Platform: "linux/amd64", MirrorsDir: os.DevNull, RetryWait: time.Millisecond, StallTimeout: 10 * time.Second,
		Credentials: func(context.Context, string) (fetcher.Credential, error) { return fetcher.Credential{}, nil },
	}
}

// mustPull fetches and looks at the layout.
func mustPull(t *testing.T, o fetcher.OCI, job fetcher.Job) fetcher.Payload {
	t.Helper()
	p, err := o.Fetch(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	checkLayout(t, p)
	return p
}

// checkLayout walks a layout from its index.json down and verifies each blob; what it pins is what the payload says.
func checkLayout(t *testing.T, p fetcher.Payload) {
	t.Helper()
	if got := string(readFile(t, filepath.Join(p.Path, "oci-layout"))); got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout is %s", got)
	}
	var index ocispec.Index
	unmarshal(t, readFile(t, filepath.Join(p.Path, "index.json")), &index)
	if len(index.Manifests) != 1 || !strings.HasSuffix(p.Reference, "@"+index.Manifests[0].Digest.String()) {
		t.Fatalf("index.json has %v, the reference is %s", index.Manifests, p.Reference)
	}
	names := map[string]bool{}
	var size int64
	var found bool
	var walk func(d ocispec.Descriptor)
	walk = func(d ocispec.Descriptor) {
		if names[d.Digest.Encoded()] {
			return
		}
		content := readFile(t, filepath.Join(p.Path, "blobs", "sha256", d.Digest.Encoded()))
		if digest.FromBytes(content) != d.Digest || int64(len(content)) != d.Size {
			t.Errorf("blob %s is not what it should be", d.Digest)
		}
		names[d.Digest.Encoded()] = true
		size += d.Size
		found = found || d.Digest.String() == p.Digest
		var m struct {
			Manifests, Layers []ocispec.Descriptor
			Config            *ocispec.Descriptor
		}
		if !strings.HasSuffix(d.MediaType, "json") || json.Unmarshal(content, &m) != nil {
			return
		}
		for _, child := range m.Manifests {
			if _, err := os.Lstat(filepath.Join(p.Path, "blobs", "sha256", child.Digest.Encoded())); err == nil {
				walk(child)
			}
		}
		if m.Config != nil && m.Config.Digest != "" {
			walk(*m.Config)
		}
		for _, l := range m.Layers {
			walk(l)
		}
	}
	walk(index.Manifests[0])
	if !found || size != p.Size {
		t.Errorf("manifest %s found: %v; %d bytes, the payload says %d", p.Digest, found, size, p.Size)
	}
	entries, err := os.ReadDir(filepath.Join(p.Path, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(names) {
		t.Errorf("%d blobs in the layout, %d belong to the image", len(entries), len(names))
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unmarshal(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
}

// noIndex says whether the job's folder has no readable image.
func noIndex(t *testing.T, job fetcher.Job) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(job.Dir, "image", "index.json")); err == nil {
		t.Error("an unfinished image has an index.json")
	}
}

func sprint(v ...any) string { return fmt.Sprintln(v...) }
