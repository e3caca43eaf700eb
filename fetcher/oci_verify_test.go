package fetcher_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

// signedOCI takes what s signed.
func signedOCI(t *testing.T, s signer) fetcher.OCI {
	t.Helper()
	o := quickOCI()
	o.Tries = 1
	o.Verifier = s.cosign(t)
	return o
}

// isRefused fetches an image that must not come; nothing but manifests may have been asked for beside what vouches for it.
func isRefused(t *testing.T, o fetcher.OCI, job fetcher.Job, h *hub, img testregistry.Image) {
	t.Helper()
	if p, err := o.Fetch(t.Context(), job); !errors.Is(err, fetcher.ErrUnsigned) || !errors.Is(err, fetcher.ErrBadImage) {
		t.Errorf("got %+v, %v", p, err)
	}
	noIndex(t, job)
	for _, d := range append([]ocispec.Descriptor{img.Config}, img.Layers...) {
		if n := len(h.asked("/blobs/" + d.Digest.String())); n != 0 {
			t.Errorf("blob %s of an unsigned image was asked for", d.Digest)
		}
	}
}

func TestOCI_takesSignedImages(t *testing.T) {
	mine := newSigner(t)
	for _, c := range []struct {
		name string
		sign func(h *hub, d ocispec.Descriptor)
	}{
		{"a bundle by the referrers API", func(h *hub, d ocispec.Descriptor) { mine.attach(h, "ns/app", d) }},
		{"a bundle by the fallback tag", func(h *hub, d ocispec.Descriptor) { h.WithoutReferrers(); mine.attach(h, "ns/app", d) }},
		{"the old tag", func(h *hub, d ocispec.Descriptor) { mine.tag(h, "ns/app", d) }},
		{"the old tag, beside others' bundles", func(h *hub, d ocispec.Descriptor) {
			newSigner(t).attach(h, "ns/app", d)
			mine.tag(h, "ns/app", d)
		}},
	} {
		for _, index := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, index %v", c.name, index), func(t *testing.T) {
				h := newHub(t)
				img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
				d := img.Manifest
				if index {
					d = h.PushIndex("ns/app", img.Manifest)
				}
				job := newImageJob(t, h.ref("ns/app", d))
				isRefused(t, signedOCI(t, mine), job, h, img)
				c.sign(h, d)
				isRefused(t, signedOCI(t, newSigner(t)), job, h, img)
				first := mustPull(t, signedOCI(t, mine), job)

				// Offered again after a restart, the proof is on disk: no request at all. Another key does not believe it.
				h.Spoil(nil)
				if again := mustPull(t, signedOCI(t, mine), job); again != first || len(h.Gets("")) != 0 {
					t.Errorf("got %+v, then %+v, and asked for %q", first, again, h.asked(""))
				}
				if p, err := signedOCI(t, newSigner(t)).Fetch(t.Context(), job); !errors.Is(err, fetcher.ErrUnsigned) {
					t.Errorf("another key took what is on disk: %+v, %v", p, err)
				}
				h.server.Close()
				mustPull(t, signedOCI(t, mine), job)
				if p, err := signedOCI(t, newSigner(t)).Fetch(t.Context(), job); err == nil || errors.Is(err, fetcher.ErrUnsigned) {
					t.Errorf("another key, no registry: %+v, %v", p, err)
				}
			})
		}
	}
}

// What somebody can do who may push to the repository, or answers for the registry, but has no key.
func TestOCI_refusesUnsignedImages(t *testing.T) {
	mine := newSigner(t)
	for name, attack := range map[string]func(h *hub, img, other testregistry.Image){
		"unsigned":                     func(*hub, testregistry.Image, testregistry.Image) {},
		"a signature of another image": func(h *hub, _, other testregistry.Image) { mine.attach(h, "ns/app", other.Manifest) },
		"the same, under the old tag":  func(h *hub, _, other testregistry.Image) { mine.tag(h, "ns/app", other.Manifest) },
		"another's signature, moved": func(h *hub, img, other testregistry.Image) {
			h.Attach("ns/app", img.Manifest, bundled(mine.bundle(other.Manifest.Digest.String())))
		},
		"another's old signature, moved": func(h *hub, img, other testregistry.Image) {
			l := mine.old(simple(simpleKind, other.Manifest.Digest.String()))
			h.Tag("ns/app", "sha256-"+img.Manifest.Digest.Encoded()+".sig", testregistry.Layer{MediaType: l.MediaType, Content: l.Data, Annotations: l.Annotations})
		},
		"another key": func(h *hub, img, _ testregistry.Image) {
			newSigner(t).attach(h, "ns/app", img.Manifest)
			newSigner(t).tag(h, "ns/app", img.Manifest)
		},
		"a signed statement": func(h *hub, img, _ testregistry.Image) {
			h.Attach("ns/app", img.Manifest, bundled(mine.envelope(inToto, inTotoOf("https://slsa.dev/provenance/v1", img.Manifest.Digest.String()))))
		},
		"as another artifact": func(h *hub, img, _ testregistry.Image) {
			a := bundled(mine.bundle(img.Manifest.Digest.String()))
			a.Type = statementType
			h.Attach("ns/app", img.Manifest, a)
		},
		"a huge bundle": func(h *hub, img, _ testregistry.Image) {
			h.Attach("ns/app", img.Manifest, bundled(append(mine.bundle(img.Manifest.Digest.String()), []byte(strings.Repeat(" ", 70_000))...)))
		},
		"huge annotations": func(h *hub, img, _ testregistry.Image) {
			a := bundled(mine.bundle(img.Manifest.Digest.String()))
			a.Annotations = map[string]string{"a": strings.Repeat("x", 2<<20)}
			h.Attach("ns/app", img.Manifest, a)
		},
		"junk": func(h *hub, img, _ testregistry.Image) {
			h.Attach("ns/app", img.Manifest, bundled([]byte("\x00"), []byte("{}")))
			h.PushManifest("ns/app", "sha256-"+img.Manifest.Digest.Encoded()+".sig", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"layers":7}`))
		},
		"referrers of another image": func(h *hub, img, other testregistry.Image) {
			d := h.Attach("ns/app", other.Manifest, bundled(mine.bundle(other.Manifest.Digest.String())))
			h.Spoil(testregistry.Always("/referrers/", testregistry.Index(d)))
		},
		"a huge index": func(h *hub, _, _ testregistry.Image) {
			h.Spoil(testregistry.Always("/referrers/", testregistry.Endless()))
		},
		"an empty list": func(h *hub, img, _ testregistry.Image) {
			mine.attach(h, "ns/app", img.Manifest)
			h.Spoil(testregistry.Always("/referrers/", testregistry.Index()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
			attack(h, img, h.PushImage("ns/app", "linux/amd64", noise(2, 1000)))
			isRefused(t, signedOCI(t, mine), newImageJob(t, h.ref("ns/app", img.Manifest)), h, img)
		})
	}
}

// The pinned digest must be signed, not only what was chosen from it: an index decides what runs where.
func TestOCI_wantsThePinnedDigestSigned(t *testing.T) {
	h := newHub(t)
	mine := newSigner(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
	index := h.PushIndex("ns/app", img.Manifest)
	mine.attach(h, "ns/app", img.Manifest)
	isRefused(t, signedOCI(t, mine), newImageJob(t, h.ref("ns/app", index)), h, img)
	mustPull(t, signedOCI(t, mine), newImageJob(t, h.ref("ns/app", img.Manifest)))
}

// A signature is of a digest; where that is, is not asked. docs and Cosign say so.
func TestOCI_signatureFromAnotherRepository(t *testing.T) {
	h := newHub(t)
	mine := newSigner(t)
	d := h.PushImage("ns/app", "linux/amd64", noise(1, 1000)).Manifest
	h.PushImage("elsewhere", "linux/amd64", noise(1, 1000))
	mine.tag(h, "elsewhere", d)
	mustPull(t, signedOCI(t, mine), newImageJob(t, h.ref("elsewhere", d)))
	if p, err := signedOCI(t, mine).Fetch(t.Context(), newImageJob(t, h.ref("ns/app", d))); !errors.Is(err, fetcher.ErrUnsigned) {
		t.Errorf("a signature is looked for in the image's own repository: got %+v, %v", p, err)
	}
}

// Who hides signatures stops an update, and no more: it is tried again, and the server is not told that the image is bad.
func TestOCI_cannotAskForSignatures(t *testing.T) {
	mine := newSigner(t)
	for name, f := range map[string]testregistry.Front{
		"500": testregistry.Answer(http.StatusInternalServerError), "403": testregistry.Answer(http.StatusForbidden), "an RST": testregistry.Cut(0, true),
	} {
		h := newHub(t)
		img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
		mine.attach(h, "ns/app", img.Manifest)
		job := newImageJob(t, h.ref("ns/app", img.Manifest))
		h.Spoil(testregistry.Always("/referrers/", f))
		if p, err := signedOCI(t, mine).Fetch(t.Context(), job); err == nil || errors.Is(err, fetcher.ErrUnsigned) || errors.Is(err, fetcher.ErrBadImage) {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
		h.Spoil(nil)
		mustPull(t, signedOCI(t, mine), job)
	}
}

// What is on disk proves nothing by being there.
func TestOCI_spoiltProof(t *testing.T) {
	h := newHub(t)
	mine := newSigner(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
	for range 12 {
		h.Attach("ns/app", img.Manifest, bundled([]byte(strings.Repeat("junk", 10_000))))
	}
	mine.tag(h, "ns/app", img.Manifest)
	job := newImageJob(t, h.ref("ns/app", img.Manifest))
	mustPull(t, signedOCI(t, mine), job)
	proof := filepath.Join(job.Dir, "proof.json")
	whole := readFile(t, proof)
	if len(whole) > 2000 {
		t.Errorf("the proof has %d bytes: it should be what convinced, without the junk", len(whole))
	}
	for name, content := range map[string][]byte{
		"empty": nil, "cut": whole[:len(whole)/2], "another digest": []byte(strings.ReplaceAll(string(whole), img.Manifest.Digest.String(), digestA)),
		"other data": []byte(strings.Replace(string(whole), `"Data":"`, `"Data":"AAAA`, 1)),
	} {
		if err := os.WriteFile(proof, content, 0o600); err != nil {
			t.Fatal(err)
		}
		h.Spoil(nil)
		mustPull(t, signedOCI(t, mine), job)
		if got := readFile(t, proof); string(got) != string(whole) || len(h.asked("/referrers/")) != 1 {
			t.Errorf("%s: the proof is %s, asked %q", name, got, h.asked(""))
		}
	}
	// In another folder it proves what it proved here; for another image nothing.
	other := h.PushImage("ns/app", "linux/amd64", noise(2, 1000))
	stolen := newImageJob(t, h.ref("ns/app", other.Manifest))
	if err := os.MkdirAll(stolen.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	forged := strings.ReplaceAll(string(whole), img.Manifest.Digest.String(), other.Manifest.Digest.String())
	if err := os.WriteFile(filepath.Join(stolen.Dir, "proof.json"), []byte(forged), 0o600); err != nil {
		t.Fatal(err)
	}
	isRefused(t, signedOCI(t, mine), stolen, h, other)
}

// curious is a verifier as another module would have it.
type curious func(context.Context, fetcher.ImageClaim) error

func (f curious) VerifyImage(ctx context.Context, image fetcher.ImageClaim) error {
	return f(ctx, image)
}

func TestOCI_asksAnyVerifier(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
	index := h.PushIndex("ns/app", img.Manifest)
	h.PushManifest("ns/app", "1.0", index.MediaType, h.Manifest("ns/app", index.Digest.String()))
	h.Attach("ns/app", index, paper("one"))
	h.Tag("ns/app", "extra", testregistry.Layer{Content: []byte("two")})
	var claims []fetcher.ImageClaim
	o := quickOCI()
	o.AllowTags = true
	o.Verifier = curious(func(ctx context.Context, image fetcher.ImageClaim) error {
		claims = append(claims, image)
		var seen []string
		for a, err := range image.Attached(ctx, statementType, 1000) {
			seen = append(seen, fmt.Sprintf("%s %v", a.Layers[0].Data, err))
		}
		for a, err := range image.Tagged(ctx, "extra", 1000) {
			seen = append(seen, fmt.Sprintf("%s %v", a.Layers[0].Data, err))
		}
		for a, err := range image.Tagged(ctx, "../blobs/x", 1000) {
			if err == nil {
				t.Errorf("got %+v", a)
			}
		}
		if fmt.Sprint(seen) != "[one <nil> two <nil>]" {
			return fmt.Errorf("not both: %q", seen)
		}
		return nil
	})
	job := newImageJob(t, h.host()+"/ns/app:1.0")
	mustPull(t, o, job)
	h.Spoil(nil)
	mustPull(t, o, job)
	if n := len(h.Gets("")); n != 0 {
		t.Errorf("%d requests for what is here: %q", n, h.asked(""))
	}
	got := claims[0]
	if got.Digest != index.Digest.String() || got.MediaType != index.MediaType || got.Reference != h.ref("ns/app", index) ||
		string(got.Content) != string(h.Manifest("ns/app", index.Digest.String())) {
		t.Errorf("got %+v", got)
	}
	if asked := h.asked("/blobs/x"); len(asked) != 0 {
		t.Errorf("it asked for %q", asked)
	}
	if len(claims) != 3 { // by the registry, by the last that it yielded, and by all that were kept
		t.Errorf("it was asked %d times", len(claims))
	}
}

// pushGolden is the image that cosign signed, and what it pushed for that: once as a registry with referrers has it, once as one without.
func pushGolden(t *testing.T, h *hub, bundle bool) ocispec.Descriptor {
	t.Helper()
	h.PushBlob("ns/app", ocispec.MediaTypeImageLayer, golden(t, "layer.txt"))
	h.PushBlob("ns/app", ocispec.MediaTypeImageConfig, golden(t, "config.json"))
	d := h.PushManifest("ns/app", "", ocispec.MediaTypeImageManifest, golden(t, "manifest.json"))
	if bundle {
		h.PushBlob("ns/app", bundleType, golden(t, "ecdsa.bundle.json"))
		h.PushBlob("ns/app", ocispec.MediaTypeEmptyJSON, []byte("{}"))
		h.PushManifest("ns/app", "", ocispec.MediaTypeImageManifest, golden(t, "artifact.json"))
		return d
	}
	h.Tag("ns/app", "sha256-"+d.Digest.Encoded()+".sig", testregistry.Layer{
		MediaType: simpleType, Content: golden(t, "ecdsa.payload.json"), Annotations: map[string]string{simpleNote: string(golden(t, "ecdsa.sig"))},
	})
	return d
}

func TestOCI_takesWhatCosignPushed(t *testing.T) {
	for _, bundle := range []bool{true, false} {
		h := newHub(t)
		d := pushGolden(t, h, bundle)
		o := quickOCI()
		o.Verifier, _ = goldenCosign(t)
		if p := mustPull(t, o, newImageJob(t, h.ref("ns/app", d))); p.Digest != d.Digest.String() {
			t.Errorf("got %+v", p)
		}
	}
}
