package testregistry

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Artifact is what is attached to an image.
type Artifact struct {
	Type        string // its artifactType
	Annotations map[string]string
	Layers      []Layer
}

// Layer is a layer of an Artifact.
type Layer struct {
	MediaType   string
	Content     []byte
	Annotations map[string]string
}

// WithoutReferrers makes the registry one that knows nothing of referrers; Attach then keeps the index under the fallback tag, as clients have
// to.
func (g *Registry) WithoutReferrers() *Registry {
	g.registry = without(g.registry)
	return g
}

func without(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Attach pushes an artifact that refers to subject, which must have digest, size and media type, and returns its manifest's
// descriptor. In a registry without the referrers API the index under the fallback tag gets it too (OCI distribution specification 1.1,
// "Pushing Manifests with Subject").
func (g *Registry) Attach(repo string, subject ocispec.Descriptor, a Artifact) ocispec.Descriptor {
	subject = ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	d := g.PushManifest(repo, "", ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: a.Type,
		Config: g.PushBlob(repo, ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: g.pushLayers(repo, a.Layers),
		Subject: &subject, Annotations: a.Annotations,
	})
	d.ArtifactType, d.Annotations = a.Type, a.Annotations
	if status, _ := g.get("/v2/" + repo + "/referrers/" + subject.Digest.String()); status != http.StatusOK {
		g.note(repo, "sha256-"+subject.Digest.Encoded(), d)
	}
	return d
}

// Tag pushes a manifest with these layers under a tag: cosign's signatures before there were referrers.
func (g *Registry) Tag(repo, tag string, layers ...Layer) ocispec.Descriptor {
	return g.PushManifest(repo, tag, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: g.PushBlob(repo, ocispec.MediaTypeImageConfig, []byte("{}")), Layers: g.pushLayers(repo, layers),
	})
}

func (g *Registry) pushLayers(repo string, layers []Layer) []ocispec.Descriptor {
	var all []ocispec.Descriptor
	for _, l := range layers {
		d := g.PushBlob(repo, l.MediaType, l.Content)
		d.Annotations = l.Annotations
		all = append(all, d)
	}
	return all
}

// note adds an entry to the index under a tag.
func (g *Registry) note(repo, tag string, d ocispec.Descriptor) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	if status, body := g.get("/v2/" + repo + "/manifests/" + tag); status == http.StatusOK {
		if err := json.Unmarshal(body, &index); err != nil {
			panic(err)
		}
	}
	index.Manifests = append(index.Manifests, d)
	g.PushManifest(repo, tag, ocispec.MediaTypeImageIndex, index)
}

func (g *Registry) get(path string) (status int, body []byte) {
	answer := httptest.NewRecorder()
	g.registry.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	return answer.Code, answer.Body.Bytes()
}

// Always spoils every request whose path has this part in it.
func Always(part string, f Front) Front {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, part) {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// Index answers with an index of these entries, as a list of referrers is one.
func Index(entries ...ocispec.Descriptor) Front {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_, _ = w.Write(encode(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append([]ocispec.Descriptor{}, entries...),
		}))
	}
}

// Endless answers with an index that never ends, until the client goes away.
func Endless() Front {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_, err := w.Write([]byte(`{"schemaVersion":2,"manifests":[`))
		for entry := []byte(strings.Repeat(`{"size":1},`, 1000)); err == nil; {
			_, err = w.Write(entry)
		}
	}
}

// Paged answers like f, and says each time that there is another page.
func Paged(f Front) Front {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		w.Header().Set("Link", "<"+r.URL.Path+"?page="+strconv.Itoa(page+1)+`>; rel="next"`)
		f(w, r, next)
	}
}

// Manifest returns what is under a tag or a digest.
func (g *Registry) Manifest(repo, ref string) []byte {
	status, body := g.get("/v2/" + repo + "/manifests/" + ref)
	if status != http.StatusOK {
		panic(string(body))
	}
	return body
}
