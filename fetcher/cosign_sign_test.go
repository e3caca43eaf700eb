package fetcher_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

const (
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	inToto        = "application/vnd.in-toto+json"
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
	simpleType    = "application/vnd.dev.cosign.simplesigning.v1+json"
	simpleNote    = "dev.cosignproject.cosign/signature"
)

// signer signs as cosign does.
type signer struct {
	key *ecdsa.PrivateKey
	pem string
}

func newSigner(tb testing.TB) signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		tb.Fatal(err)
	}
	return signer{key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

func (s signer) cosign(tb testing.TB) *fetcher.Cosign {
	tb.Helper()
	c, err := fetcher.NewCosign(s.pem)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func (s signer) sign(message []byte) []byte {
	sum := sha256.Sum256(message)
	sig, err := s.key.Sign(rand.Reader, sum[:], nil)
	if err != nil {
		panic(err)
	}
	return sig
}

// envelope is a bundle with a DSSE envelope.
func (s signer) envelope(payloadType string, payload []byte) []byte {
	sig := s.sign(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	return toJSON(map[string]any{
		"mediaType": bundleType, "verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": "x"}},
		"dsseEnvelope": map[string]any{"payload": payload, "payloadType": payloadType, "signatures": []any{map[string]any{"sig": sig}}},
	})
}

// inTotoOf is what cosign 3 signs.
func inTotoOf(predicate string, digests ...string) []byte {
	var subjects []any
	for _, d := range digests {
		subjects = append(subjects, map[string]any{"digest": map[string]string{"sha256": d[len("sha256:"):]}})
	}
	return toJSON(map[string]any{"_type": "https://in-toto.io/Statement/v1", "subject": subjects, "predicateType": predicate, "predicate": map[string]any{}})
}

// bundle is what "cosign sign" of cosign 3 attaches.
func (s signer) bundle(digest string) []byte {
	return s.envelope(inToto, inTotoOf(signPredicate, digest))
}

// message is a bundle with a signature of the manifest itself.
func (s signer) message(content []byte) []byte {
	sum := sha256.Sum256(content)
	return toJSON(map[string]any{"mediaType": bundleType, "messageSignature": map[string]any{
		"messageDigest": map[string]any{"algorithm": "SHA2_256", "digest": sum[:]}, "signature": s.sign(content),
	}})
}

// simple is what cosign 1 and 2 sign.
func simple(kind, digest string) []byte {
	return toJSON(map[string]any{"critical": map[string]any{
		"identity": map[string]string{"docker-reference": "registry.example/ns/app"},
		"image":    map[string]string{"docker-manifest-digest": digest}, "type": kind,
	}, "optional": nil})
}

const simpleKind = "cosign container image signature"

// old is a layer under the tag .sig.
func (s signer) old(payload []byte) fetcher.AttachedLayer {
	return fetcher.AttachedLayer{
		MediaType: simpleType, Data: payload,
		Annotations: map[string]string{simpleNote: base64.StdEncoding.EncodeToString(s.sign(payload))},
	}
}

// attach is "cosign sign" of cosign 3 for something in a hub.
func (s signer) attach(h *hub, repo string, d ocispec.Descriptor) {
	h.Attach(repo, d, bundled(s.bundle(d.Digest.String())))
}

func bundled(bundles ...[]byte) testregistry.Artifact {
	a := testregistry.Artifact{Type: bundleType}
	for _, b := range bundles {
		a.Layers = append(a.Layers, testregistry.Layer{MediaType: bundleType, Content: b})
	}
	return a
}

// tag is "cosign sign" of cosign 2.
func (s signer) tag(h *hub, repo string, d ocispec.Descriptor) {
	l := s.old(simple(simpleKind, d.Digest.String()))
	h.Tag(repo, "sha256-"+d.Digest.Encoded()+".sig", testregistry.Layer{MediaType: l.MediaType, Content: l.Data, Annotations: l.Annotations})
}

func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
