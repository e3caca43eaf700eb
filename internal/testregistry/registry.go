// Package testregistry holds a container registry with images made on the spot and faults in front, for this project's tests and
// examples. It is go-containerregistry's registry, in memory, which refuses open ranges as some real registries do:
//
//	reg := testregistry.New()
//	server := httptest.NewServer(reg)
//	app := reg.PushImage("ns/app", "linux/amd64", layer1, layer2)
//	index := reg.PushIndex("ns/app", app.Manifest, other.Manifest)
//
// All methods may be called at any time by any goroutine. What cannot be pushed is a mistake of the test's, and panics.
package testregistry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Front spoils answers: it is called instead of the registry, and calls next to answer honestly.
type Front func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Registry is a registry.
type Registry struct {
	registry http.Handler

	mu     sync.Mutex // guards what follows
	front  Front
	seen   []*http.Request
	served map[string]int64 // body bytes by path
}

// New returns an empty registry, as an http.Handler.
func New() *Registry {
	return In(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
}

// In puts the counters and faults of a Registry in front of another one.
func In(other http.Handler) *Registry {
	return &Registry{registry: other, served: map[string]int64{}}
}

// Spoil sets what stands in front of the registry, nil for nothing, and forgets the requests so far.
func (g *Registry) Spoil(f Front) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.front, g.seen, g.served = f, nil, map[string]int64{}
}

// ServeHTTP serves the registry.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	front, served := g.front, g.served // a request that outlives Spoil counts for the time before
	g.seen = append(g.seen, r.Clone(r.Context()))
	g.mu.Unlock()
	count := &counter{ResponseWriter: w, add: func(n int) {
		g.mu.Lock()
		defer g.mu.Unlock()
		served[r.URL.Path] += int64(n)
	}}
	if front == nil {
		g.registry.ServeHTTP(count, r)
		return
	}
	front(count, r, g.registry)
}

type counter struct {
	http.ResponseWriter
	add func(n int)
}

// Write counts first: a client that has the bytes may ask for the count at once.
func (c *counter) Write(p []byte) (int, error) {
	c.add(len(p))
	n, err := c.ResponseWriter.Write(p)
	c.add(n - len(p))
	return n, err
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Gets returns the GET requests since Spoil whose path has this part in it. They are not to be changed.
func (g *Registry) Gets(part string) []*http.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*http.Request
	for _, r := range g.seen {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, part) {
			all = append(all, r)
		}
	}
	return all
}

// Bytes returns how many body bytes were served since Spoil for paths that have this part in them.
func (g *Registry) Bytes(part string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	var sum int64
	for path, n := range g.served {
		if strings.Contains(path, part) {
			sum += n
		}
	}
	return sum
}

// Image is an image in a Registry.
type Image struct {
	Manifest ocispec.Descriptor // with its platform, as PushIndex wants it
	Config   ocispec.Descriptor
	Layers   []ocispec.Descriptor
}

// Size returns the bytes of manifest, config and layers together.
func (i Image) Size() int64 {
	n := i.Manifest.Size + i.Config.Size
	for _, l := range i.Layers {
		n += l.Size
	}
	return n
}

// PushImage makes an image for a platform (linux/arm/v7) of these layers, whatever they hold.
func (g *Registry) PushImage(repo, platform string, layers ...[]byte) Image {
	os, arch, _ := strings.Cut(platform, "/")
	arch, variant, _ := strings.Cut(arch, "/")
	config := ocispec.Image{
		Platform: ocispec.Platform{OS: os, Architecture: arch, Variant: variant},
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
	var img Image
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
		img.Layers = append(img.Layers, g.PushBlob(repo, ocispec.MediaTypeImageLayer, l))
	}
	img.Config = g.PushBlob(repo, ocispec.MediaTypeImageConfig, encode(config))
	img.Manifest = g.PushManifest(repo, "", ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: img.Config, Layers: img.Layers,
	})
	img.Manifest.Platform = &config.Platform
	return img
}

// PushIndex makes an index of manifests.
func (g *Registry) PushIndex(repo string, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	return g.PushManifest(repo, "", ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
}

// PushBlob puts a blob into a repository.
func (g *Registry) PushBlob(repo, mediaType string, content []byte) ocispec.Descriptor {
	d := describe(mediaType, content)
	began := g.push(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil, http.StatusAccepted)
	to, err := url.Parse(began.Get("Location"))
	if err != nil {
		panic(err)
	}
	query := to.Query()
	query.Set("digest", d.Digest.String())
	g.push(http.MethodPut, to.Path+"?"+query.Encode(), "application/octet-stream", content, http.StatusCreated)
	return d
}

// PushManifest puts a manifest into a repository under a tag, or under its digest only where tag is "". A content that is no []byte is
// encoded as JSON.
func (g *Registry) PushManifest(repo, tag, mediaType string, content any) ocispec.Descriptor {
	raw, ok := content.([]byte)
	if !ok {
		raw = encode(content)
	}
	d := describe(mediaType, raw)
	if tag == "" {
		tag = d.Digest.String()
	}
	g.push(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, mediaType, raw, http.StatusCreated)
	return d
}

func describe(mediaType string, content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

func (g *Registry) push(method, path, contentType string, body []byte, want int) http.Header {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	answer := httptest.NewRecorder()
	g.registry.ServeHTTP(answer, r)
	if answer.Code != want {
		panic(fmt.Sprintf("push %s %s: %d %s", method, path, answer.Code, answer.Body))
	}
	return answer.Header()
}
