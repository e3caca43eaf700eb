package fetcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

// Whatever goes wrong once, in the middle of a layer or of a manifest, the image arrives.
func TestOCI_survives(t *testing.T) {
	layer := noise(1, 700_000)
	for name, f := range map[string]testregistry.Front{
		"a corrupt answer":       testregistry.Corrupt(),
		"a FIN":                  testregistry.Cut(100, false),
		"an RST":                 testregistry.Cut(100, true),
		"a stall":                testregistry.Stall(100),
		"503":                    testregistry.Answer(http.StatusServiceUnavailable),
		"429 with Retry-After":   testregistry.Answer(http.StatusTooManyRequests, "Retry-After", "1"),
		"a wrong Content-Type":   testregistry.Edit(func(h http.Header, b []byte) []byte { h.Set("Content-Type", "text/html"); return b }),
		"a wrong digest header":  testregistry.Edit(func(h http.Header, b []byte) []byte { h.Set("Docker-Content-Digest", digestA); return b }),
		"no length":              testregistry.Edit(func(h http.Header, b []byte) []byte { h.Del("Content-Length"); return b }),
		"an answer of no length": testregistry.Edit(func(h http.Header, b []byte) []byte { h.Set("Content-Length", "0"); return nil }),
	} {
		for _, where := range []string{"/manifests/", "/blobs/"} {
			t.Run(name+" in "+strings.Trim(where, "/"), func(t *testing.T) {
				h := newHub(t)
				img := h.PushImage("ns/app", "linux/amd64", layer)
				h.Spoil(testregistry.Times(1, where, f))
				o := quickOCI()
				o.StallTimeout = 100 * time.Millisecond
				mustPull(t, o, newImageJob(t, h.ref("ns/app", img.Manifest)))
			})
		}
	}
}

func TestOCI_goesOnWhereItWasCut(t *testing.T) {
	h := newHub(t)
	layer := noise(1, 2_000_000)
	img := h.PushImage("ns/app", "linux/amd64", layer)
	path := "/v2/ns/app/blobs/" + img.Layers[0].Digest.String()
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	o := quickOCI()
	for name, f := range map[string]testregistry.Front{
		"with a range": testregistry.Honest,
		"the range is ignored": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			r.Header.Del("Range")
			next.ServeHTTP(w, r)
		},
		"416": testregistry.Answer(http.StatusRequestedRangeNotSatisfiable),
		"another part than asked": testregistry.Edit(func(h http.Header, b []byte) []byte {
			h.Set("Content-Range", strings.Replace(h.Get("Content-Range"), "bytes ", "bytes 1", 1))
			return b
		}),
	} {
		t.Run(name, func(t *testing.T) {
			job := job
			job.Dir, job.Shared = filepath.Join(t.TempDir(), "dir"), t.TempDir()
			h.Spoil(sequence(path, testregistry.Cut(1_200_000, false), f))
			mustPull(t, o, job)
			if got := h.asked(path); len(got) < 2 || !strings.Contains(got[1], "bytes=1200000-1999999") {
				t.Errorf("asked %q", got)
			}
			if name == "with a range" && h.Bytes(path) != 2_000_000 {
				t.Errorf("%d bytes came", h.Bytes(path))
			}
		})
	}
}

// sequence spoils the first requests for a path one after the other.
func sequence(path string, fronts ...testregistry.Front) testregistry.Front {
	next := make(chan testregistry.Front, len(fronts))
	for _, f := range fronts {
		next <- f
	}
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		if strings.Contains(r.URL.Path, path) {
			select {
			case f := <-next:
				f(w, r, honest)
				return
			default:
			}
		}
		honest.ServeHTTP(w, r)
	}
}

// What stays wrong fails, with the error that says what is wrong, and leaves no half image. Siblings of a bad blob are kept.
func TestOCI_fails(t *testing.T) {
	long := testregistry.Edit(func(h http.Header, b []byte) []byte {
		h.Del("Content-Length")
		return append(b, make([]byte, 1<<20)...)
	})
	huge := testregistry.Edit(func(h http.Header, _ []byte) []byte { h.Del("Content-Length"); return make([]byte, 5<<20) })
	swapped := testregistry.Edit(func(h http.Header, _ []byte) []byte {
		b := []byte(`{"schemaVersion":2,"config":{"digest":"` + digestA + `","size":1},"layers":[]}`)
		h.Del("Content-Length")
		return b
	})
	for _, c := range []struct {
		name, where string
		front       testregistry.Front
		is          error
	}{
		{"a manifest swapped", "/manifests/", swapped, fetcher.ErrDigest},
		{"a manifest too large", "/manifests/", huge, fetcher.ErrSize},
		{"a corrupt layer", "LAYER", testregistry.Corrupt(), fetcher.ErrDigest},
		{"a layer that grows", "LAYER", long, fetcher.ErrSize},
		{"a short layer", "LAYER", testregistry.Edit(func(h http.Header, b []byte) []byte { h.Del("Content-Length"); return b[:10] }), fetcher.ErrSize},
		{"a layer that stalls", "LAYER", testregistry.Stall(0), fetcher.ErrTooSlow},
		{"a missing layer", "LAYER", testregistry.Answer(http.StatusNotFound), nil},
		{"no entry", "LAYER", testregistry.Answer(http.StatusForbidden), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t)
			img := h.PushImage("ns/app", "linux/amd64", noise(1, 50_000), noise(2, 60_000))
			where := strings.Replace(c.where, "LAYER", img.Layers[0].Digest.String(), 1)
			h.Spoil(testregistry.Times(1000, where, c.front))
			o := quickOCI()
			o.Tries, o.StallTimeout = 2, 50*time.Millisecond
			job := newImageJob(t, h.ref("ns/app", img.Manifest))
			_, err := o.Fetch(t.Context(), job)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Fatal(err)
			}
			noIndex(t, job)
			if c.where != "LAYER" {
				return
			}
			h.Spoil(nil)
			mustPull(t, o, job)
			if got := h.asked("/"); len(got) != 1 || !strings.Contains(got[0], img.Layers[0].Digest.String()) {
				t.Errorf("afterwards it asked for %q", got)
			}
		})
	}
}

func TestOCI_knowsTheSizeBeforeTheFirstLayer(t *testing.T) {
	h := newHub(t)
	config := h.PushBlob("ns/app", ocispec.MediaTypeImageConfig, []byte(`{}`))
	for name, c := range map[string]struct {
		size int64
		is   error
	}{
		"larger than allowed":  {2 << 20, fetcher.ErrSize},
		"larger than the disk": {1 << 60, fetcher.ErrNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			bomb := h.PushBlob("ns/app", ocispec.MediaTypeImageLayerGzip, noise(1, 100))
			manifest := map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "config": config, "layers": []any{
				map[string]any{"mediaType": bomb.MediaType, "digest": bomb.Digest, "size": c.size},
			}}
			d := h.PushManifest("ns/app", "", ociManifest, manifest)
			h.Spoil(nil)
			o := quickOCI()
			if c.is == fetcher.ErrSize { //nolint:errorlint // a table's own value
				o.MaxSize = 1 << 20
			}
			job := newImageJob(t, h.ref("ns/app", d))
			if _, err := o.Fetch(t.Context(), job); !errors.Is(err, c.is) {
				t.Error(err)
			}
			if got := h.asked("/blobs/"); len(got) != 0 {
				t.Errorf("asked %q", got)
			}
		})
	}
}

func TestOCI_mendsABitFlipOnDisk(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 50_000), noise(2, 60_000))
	index := h.PushIndex("ns/app", img.Manifest)
	for _, d := range []ocispec.Descriptor{index, img.Manifest, img.Config, img.Layers[1]} {
		t.Run(d.MediaType, func(t *testing.T) {
			job := newImageJob(t, h.ref("ns/app", index))
			p := mustPull(t, quickOCI(), job)
			name := filepath.Join(p.Path, "blobs", "sha256", d.Digest.Encoded())
			b := readFile(t, name)
			b[len(b)/2] ^= 4
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			h.Spoil(nil)
			mustPull(t, quickOCI(), job)
			if got := h.asked(""); len(got) != 1 || !strings.Contains(got[0], d.Digest.String()) {
				t.Errorf("asked %q", got)
			}
		})
	}
}

func TestOCI_layoutHasNoIndexWhileItIsSpoilt(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 50_000))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	p := mustPull(t, quickOCI(), job)
	for _, dir := range []string{job.Shared, p.Path} {
		if err := os.RemoveAll(filepath.Join(dir, "blobs", "sha256", img.Layers[0].Digest.Encoded())); err != nil {
			t.Fatal(err)
		}
	}
	mustPull(t, quickOCI(), job)
}

// A cancelled pull ends, says so, and costs nothing that had arrived.
func TestOCI_cancelled(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1_000_000))
	path := img.Layers[0].Digest.String()
	h.Spoil(testregistry.Times(1, path, testregistry.Stall(600_000)))
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	job.Progress = func(done, _ int64) {
		if done >= 500_000 {
			cancel(cause)
		}
	}
	if _, err := quickOCI().Fetch(ctx, job); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Error(err)
	}
	noIndex(t, job)
	h.Spoil(nil)
	job.Progress = func(int64, int64) {}
	mustPull(t, quickOCI(), job)
	if got := h.Bytes(path); got > 500_000 {
		t.Errorf("%d bytes came again", got)
	}
}

func TestOCI_oneBlobForManyAtATime(t *testing.T) {
	h := newHub(t)
	shared := noise(1, 3_000_000)
	job := newImageJob(t)
	const apps = 6
	errs := make(chan error, apps)
	var refs []string
	for i := range apps {
		refs = append(refs, h.ref("ns/app", h.PushImage("ns/app", "linux/amd64", shared, noise(byte(10+i), 1000)).Manifest))
	}
	h.Spoil(nil)
	for i, ref := range refs {
		job := job
		job.Dir = filepath.Join(job.Dir, string(rune('a'+i)))
		job.Source.URLs = []string{ref}
		go func() {
			_, err := quickOCI().Fetch(t.Context(), job)
			errs <- err
		}()
	}
	for range apps {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := h.Bytes("/blobs/"); got > 3_000_000+apps*2000 {
		t.Errorf("%d bytes came", got)
	}
}

func TestOCI_artifactsAndOtherKinds(t *testing.T) {
	h := newHub(t)
	file := h.PushBlob("ns/thing", "text/plain", []byte("hello"))
	nothing := h.PushBlob("ns/thing", "application/octet-stream", nil)
	empty := h.PushBlob("ns/thing", ocispec.MediaTypeEmptyJSON, []byte("{}"))
	zstd := h.PushBlob("ns/thing", ocispec.MediaTypeImageLayerZstd, append([]byte{0x28, 0xb5, 0x2f, 0xfd}, noise(1, 1000)...))
	list := func(v ...ocispec.Descriptor) []ocispec.Descriptor { return v }
	const docker = "application/vnd.docker.distribution.manifest.v2+json"
	for _, c := range []struct {
		name, mediaType string
		content         map[string]any
	}{
		{"an artifact", ociManifest, map[string]any{"artifactType": "application/vnd.example", "config": empty, "layers": list(file)}},
		{"an artifact without config", ociManifest, map[string]any{"artifactType": "application/vnd.example", "layers": list(file)}},
		{"no layers", ociManifest, map[string]any{"config": empty, "layers": list()}},
		{"an empty blob", ociManifest, map[string]any{"config": empty, "layers": list(nothing, file)}},
		{"zstd", ociManifest, map[string]any{"config": empty, "layers": list(zstd)}},
		{"a layer twice", ociManifest, map[string]any{"config": empty, "layers": list(zstd, file, zstd)}},
		{"Docker's manifest", docker, map[string]any{"config": empty, "layers": list(zstd)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.content["schemaVersion"], c.content["mediaType"] = 2, c.mediaType
			d := h.PushManifest("ns/thing", "", c.mediaType, c.content)
			mustPull(t, quickOCI(), newImageJob(t, h.ref("ns/thing", d)))
			d.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
			list := h.PushManifest("ns/thing", "", "application/vnd.docker.distribution.manifest.list.v2+json", map[string]any{
				"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json", "manifests": []ocispec.Descriptor{d},
			})
			mustPull(t, quickOCI(), newImageJob(t, h.ref("ns/thing", list)))
		})
	}
}

func TestOCI_nestedIndexes(t *testing.T) {
	h := newHub(t)
	d := h.PushImage("ns/app", "linux/amd64", noise(1, 100)).Manifest
	for depth := 1; depth <= 5; depth++ {
		d = h.PushIndex("ns/app", d)
		_, err := quickOCI().Fetch(t.Context(), newImageJob(t, h.ref("ns/app", d)))
		if bad := errors.Is(err, fetcher.ErrBadImage); bad != (depth > 3) || !bad && err != nil {
			t.Errorf("%d: %v", depth, err)
		}
	}
}

func TestOCI_wrongSizeInTheIndex(t *testing.T) {
	h := newHub(t)
	d := h.PushImage("ns/app", "linux/amd64", noise(1, 100)).Manifest
	d.Size++
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []ocispec.Descriptor{d}})
	if err != nil {
		t.Fatal(err)
	}
	index := h.PushManifest("ns/app", "", ocispec.MediaTypeImageIndex, raw)
	if _, err := quickOCI().Fetch(t.Context(), newImageJob(t, h.ref("ns/app", index))); !errors.Is(err, fetcher.ErrSize) {
		t.Error(err)
	}
}

// What somebody wrote into a blob is not passed on to the next release; what the disk changed by itself is found on demand.
func TestOCI_reusesNoSpoiltBlob(t *testing.T) {
	h := newHub(t)
	base := noise(1, 50_000)
	one := h.PushImage("ns/app", "linux/amd64", base, noise(2, 1000))
	two := h.PushImage("ns/app", "linux/amd64", base, noise(3, 1000))
	for name, c := range map[string]struct{ silent, rehash, found bool }{
		"somebody wrote to it":               {false, false, true},
		"the disk changed it":                {true, true, true},
		"the disk changed it, nobody looked": {true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			job := newImageJob(t, h.ref("ns/app", one.Manifest))
			p := mustPull(t, quickOCI(), job)
			file := filepath.Join(p.Path, "blobs", "sha256", one.Layers[0].Digest.Encoded())
			before, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			b := readFile(t, file)
			b[7] ^= 1
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.silent {
				if err := os.Chtimes(file, before.ModTime(), before.ModTime()); err != nil {
					t.Fatal(err)
				}
			}
			job.Dir += "-next"
			job.Source.URLs = []string{h.ref("ns/app", two.Manifest)}
			h.Spoil(nil)
			o := quickOCI()
			o.Rehash = c.rehash
			if _, err := o.Fetch(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			if found := len(h.asked(one.Layers[0].Digest.String())) == 1; found != c.found {
				t.Errorf("found: %v", found)
			}
			mustPull(t, quickOCI(), job) // a finished image is always hashed again
		})
	}
}
