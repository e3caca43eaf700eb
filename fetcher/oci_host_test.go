package fetcher_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
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

// hub is a registry on loopback.
type hub struct {
	*testregistry.Registry
	server *httptest.Server
}

func newHub(tb testing.TB) *hub {
	tb.Helper()
	h := &hub{Registry: testregistry.New()}
	h.server = httptest.NewServer(h)
	tb.Cleanup(h.server.Close)
	return h
}

func (h *hub) host() string { return strings.TrimPrefix(h.server.URL, "http://") }

// asked lists the GET requests since Spoil whose path has this part, as "path range".
func (h *hub) asked(part string) []string {
	var all []string
	for _, r := range h.Gets(part) {
		all = append(all, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
	}
	return all
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
		Platform: "linux/amd64", MirrorsDir: os.DevNull, RetryWait: time.Millisecond, StallTimeout: time.Minute,
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

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
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
