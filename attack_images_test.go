package omahaclient_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

const (
	repository = "ns/app"
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
)

func imageSetups() []setup {
	return []setup{
		{name: "digest alone", image: true},
		{name: "statement", image: true, keys: true},
		{name: "cosign", image: true, cosign: true},
	}
}

// hub is a registry, with the publisher's cosign key.
type hub struct {
	*testregistry.Registry
	host   string
	cosign *ecdsa.PrivateKey
	images []testregistry.Image
}

// openHub publishes version 2.0.0 as an image that is signed in both ways.
func (s *siege) openHub() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(s.t, err)
	s.hub = &hub{cosign: key}
	s.hub.Registry, s.hub.host = s.registry()
	s.ships("2.0.0", 5)
}

// ships is the publisher's work: an image, its signatures, and the offer.
func (s *siege) ships(version string, sequence uint64) testregistry.Image {
	img := s.hub.image("of the publisher " + version)
	s.version, s.files = version, map[string][]byte{"": []byte(img.Manifest.Digest)}
	s.states(img, version, sequence)
	s.signs(img, img, s.hub.cosign)
	s.names(version, "@"+img.Manifest.Digest.String())
	return img
}

func (h *hub) image(content string) testregistry.Image {
	img := h.PushImage(repository, "linux/amd64", []byte(content))
	h.images = append(h.images, img)
	return img
}

// names is the server's offer: a tag or a digest in the publisher's repository.
func (s *siege) names(version, reference string) {
	s.group.Publish(testserver.Release{Version: version, AnyVersion: true, Image: "oci://" + s.hub.host + "/" + repository + reference})
}

// states attaches the publisher's statement to an image.
func (s *siege) states(img testregistry.Image, version string, sequence uint64, edit ...func(*trust.Statement)) {
	st := s.key.statement(appA, version, sequence, edit...)
	st.Payloads = []trust.Payload{{Name: "registry.example/ns/app", Image: true, Digest: img.Manifest.Digest.String()}}
	s.attaches(img, s.key.sign(st))
}

func (s *siege) attaches(img testregistry.Image, doc trust.Signed) {
	s.hub.Attach(repository, img.Manifest, testregistry.Artifact{Type: trust.ArtifactType, Layers: []testregistry.Layer{
		{MediaType: trust.MediaTypeRelease, Content: doc.Document}, {MediaType: trust.MediaTypeSignature, Content: doc.Signatures},
	}})
}

// signs attaches a signature of one image, as "cosign sign --key" makes it, to another one.
func (s *siege) signs(img, to testregistry.Image, key *ecdsa.PrivateKey) {
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		must(s.t, err)
		return b
	}
	const kind = "application/vnd.in-toto+json"
	payload := encode(map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": map[string]any{},
		"subject": []any{map[string]any{"digest": map[string]string{"sha256": img.Manifest.Digest.Encoded()}}},
	})
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	must(s.t, err)
	s.hub.Attach(repository, to.Manifest, testregistry.Artifact{Type: bundleType, Layers: []testregistry.Layer{{MediaType: bundleType, Content: encode(map[string]any{
		"mediaType": bundleType, "verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": "x"}},
		"dsseEnvelope": map[string]any{"payload": payload, "payloadType": kind, "signatures": []any{map[string]any{"sig": sig}}},
	})}}})
}

// fetcher is the program's, for images.
func (h *hub) fetcher(s *siege) omahaclient.Option {
	f := fetcher.OCI{Platform: "linux/amd64", MirrorsDir: os.DevNull, StallTimeout: s.stall, Tries: 1, RetryWait: time.Millisecond}
	if s.cosign {
		der, err := x509.MarshalPKIXPublicKey(&h.cosign.PublicKey)
		must(s.t, err)
		f.Verifier, err = fetcher.NewCosign(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
		must(s.t, err)
	}
	return omahaclient.WithFetcher(imageType, f)
}

// shipsElsewhere is the publisher's work for something else: signed as it should be, for what it is.
func (s *siege) shipsElsewhere(edit func(*trust.Statement)) testregistry.Image {
	img := s.hub.image("of the publisher, for something else")
	s.states(img, "2.0.0", 5, edit)
	s.signs(img, img, s.hub.cosign)
	return img
}

func imageAttacks() []attack {
	stranger := func(s *siege) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(s.t, err)
		return key
	}
	// genuine is the publisher's image, with nothing attached to it.
	bare := func(s *siege) testregistry.Image {
		img := s.hub.image("of the publisher, not yet signed")
		s.files[""] = []byte(img.Manifest.Digest)
		s.names("2.0.0", "@"+img.Manifest.Digest.String())
		return img
	}
	evilImage := func(s *siege) testregistry.Image {
		img := s.hub.image("EVIL")
		s.names("2.0.0", "@"+img.Manifest.Digest.String())
		return img
	}
	spoil := func(part string, f testregistry.Front) func(s *siege) {
		return func(s *siege) { s.hub.Spoil(testregistry.Always(part, f)) }
	}
	change := testregistry.Edit(func(_ http.Header, body []byte) []byte { return evil(body) })
	return []attack{
		{
			threat: "arbitrary install", who: "registry", does: "another manifest under the digest",
			do: func(s *siege) {
				s.hub.Spoil(testregistry.Always("/manifests/"+s.hub.images[0].Manifest.Digest.String(), change))
			},
			want: []outcome{givenBack(10), givenBack(10), givenBack(10)},
		},
		{
			threat: "arbitrary install", who: "registry", does: "other layers under their digests",
			do: func(s *siege) {
				s.hub.Spoil(testregistry.Always(s.hub.images[0].Layers[0].Digest.String(), change))
			},
			want: []outcome{givenBack(10), givenBack(10), givenBack(10)},
		},
		{
			threat: "arbitrary install", who: "server", does: "an image of its own, unsigned",
			do:   func(s *siege) { evilImage(s) },
			want: []outcome{taken, givenBack(18), givenBack(18)},
		},
		{
			threat: "arbitrary install", who: "server", does: "an image of its own, signed by keys of its own",
			do: func(s *siege) {
				img := evilImage(s)
				thief := newPublisher(s.t)
				s.attaches(img, thief.sign(thief.statement(appA, "2.0.0", 9, func(st *trust.Statement) {
					st.Payloads = []trust.Payload{{Name: "x", Image: true, Digest: img.Manifest.Digest.String()}}
				})))
				s.signs(img, img, stranger(s))
			},
			want: []outcome{taken, givenBack(18), givenBack(18)},
		},
		{
			threat: "arbitrary install", who: "server", does: "an image of its own, with the signatures of the publisher's",
			do: func(s *siege) {
				theirs := s.hub.images[0]
				img := evilImage(s)
				s.attaches(img, s.key.sign(s.key.statement(appA, "2.0.0", 5, func(st *trust.Statement) {
					st.Payloads = []trust.Payload{{Name: "x", Image: true, Digest: theirs.Manifest.Digest.String()}}
				})))
				s.signs(theirs, img, s.hub.cosign)
			},
			want: []outcome{taken, givenBack(18), givenBack(18)},
		},
		{
			threat: "arbitrary install", who: "server and registry", does: "a tag that is moved to an image of their own",
			do: func(s *siege) {
				img := s.hub.image("EVIL")
				s.hub.PushManifest(repository, "2.0.0", ocispec.MediaTypeImageManifest, s.hub.Manifest(repository, img.Manifest.Digest.String()))
				s.names("2.0.0", ":2.0.0")
			},
			want: []outcome{givenBack(34), givenBack(18), givenBack(34)},
		},
		{
			threat: "wrong software", who: "server", does: "an image of the publisher's for another app",
			do: func(s *siege) {
				img := s.shipsElsewhere(func(st *trust.Statement) { st.App = appB })
				s.names("2.0.0", "@"+img.Manifest.Digest.String())
			},
			want: []outcome{taken, givenBack(18), taken},
		},
		{
			threat: "rollback", who: "server", does: "an older image of the publisher's, and the journal is lost",
			do: func(s *siege) {
				old := s.hub.images[0]
				s.ships("3.0.0", 7)
				s.installs()
				s.loseJournal()
				s.names("2.0.0", "@"+old.Manifest.Digest.String())
			},
			want: []outcome{taken, givenBack(18), taken},
		},
		{
			threat: "mix and match", who: "server", does: "the older image under the newer version",
			do: func(s *siege) {
				old := s.hub.images[0]
				s.ships("3.0.0", 7)
				s.names("3.0.0", "@"+old.Manifest.Digest.String())
			},
			want: []outcome{taken, givenBack(18), taken},
		},
		{
			threat: "freeze", who: "registry", does: "hides what is attached to the image",
			do: func(s *siege) { bare(s) }, want: []outcome{harmless, givenBack(18), givenBack(18)},
		},
		{
			threat: "freeze", who: "registry", does: "buries it under 100 newer ones",
			do: func(s *siege) {
				img := bare(s)
				s.states(img, "2.0.0", 5)
				s.signs(img, img, s.hub.cosign)
				for i := range 100 {
					for _, kind := range []string{trust.ArtifactType, bundleType} {
						s.hub.Attach(repository, img.Manifest, testregistry.Artifact{
							Type: kind, Annotations: map[string]string{ocispec.AnnotationCreated: "2999-01-01T00:00:00Z"},
							Layers: []testregistry.Layer{{MediaType: kind, Content: fmt.Append(nil, i)}},
						})
					}
				}
			},
			want: []outcome{harmless, givenBack(18), givenBack(18)},
		},
		{
			threat: "endless data", who: "registry", does: "a list of what is attached without end",
			do: spoil("/referrers/", testregistry.Endless()), want: []outcome{harmless, putOff, givenBack(18)},
		},
		{
			threat: "endless data", who: "registry", does: "a manifest without end",
			do: func(s *siege) {
				s.hub.Spoil(testregistry.Always("/manifests/"+s.hub.images[0].Manifest.Digest.String(), testregistry.Endless()))
			},
			want: []outcome{givenBack(11), givenBack(11), givenBack(11)},
		},
		{
			threat: "slow retrieval", who: "registry", does: "stops amid a layer", stops: true,
			do: func(s *siege) {
				s.hub.Spoil(testregistry.Always(s.hub.images[0].Layers[0].Digest.String(), testregistry.Stall(3)))
			}, want: []outcome{putOff, putOff, putOff},
		},
		{
			threat: "slow retrieval", who: "registry", does: "stops amid the list of what is attached", stops: true,
			do: spoil("/referrers/", testregistry.Stall(3)), want: []outcome{harmless, putOff, putOff},
		},
		{
			threat: "key compromise", who: "key thief, and server", does: "an image of his own, signed by the stolen key",
			do: func(s *siege) {
				img := evilImage(s)
				s.states(img, "2.0.0", 9)
				s.signs(img, img, s.hub.cosign)
			},
			want: []outcome{taken, taken, taken},
		},
		{
			threat: "extraneous files", who: "server", does: "a file beside the image",
			do: func(s *siege) {
				s.group.Publish(testserver.Release{
					Version: "2.0.0", Image: "oci://" + s.hub.host + "/" + repository + "@" + s.hub.images[0].Manifest.Digest.String(),
					Files: []testserver.File{{Name: s.host(serves([]byte("EVIL"))) + "extra.bin", Content: []byte("EVIL")}},
				})
			},
			want: []outcome{taken, harmless, taken},
		},
	}
}
