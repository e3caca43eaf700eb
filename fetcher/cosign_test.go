package fetcher_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/nebraska/omahaclient/fetcher"
)

// found is what a registry has: attachments, and errors in between.
type found []any

func (f found) all() iter.Seq2[fetcher.Attachment, error] {
	return func(yield func(fetcher.Attachment, error) bool) {
		for _, x := range f {
			err, _ := x.(error)
			a, _ := x.(fetcher.Attachment)
			if !yield(a, err) {
				return
			}
		}
	}
}

// claimOf is the claim for a manifest, of which a registry has attached and tagged.
func claimOf(content []byte, attached, tagged found) fetcher.ImageClaim {
	d := digest.FromBytes(content)
	return fetcher.ImageClaim{
		Reference: "registry.example/ns/app@" + d.String(), Digest: d.String(), MediaType: ociManifest, Content: content,
		Attached: func(_ context.Context, artifactType string, _ int64) iter.Seq2[fetcher.Attachment, error] {
			if artifactType != bundleType {
				panic(artifactType)
			}
			return attached.all()
		},
		Tagged: func(_ context.Context, tag string, _ int64) iter.Seq2[fetcher.Attachment, error] {
			if tag != "sha256-"+d.Encoded()+".sig" {
				panic(tag)
			}
			return tagged.all()
		},
	}
}

func layers(mediaType string, contents ...[]byte) fetcher.Attachment {
	a := fetcher.Attachment{ArtifactType: mediaType, Where: "registry.example/ns/app@" + digestA}
	for _, c := range contents {
		a.Layers = append(a.Layers, fetcher.AttachedLayer{MediaType: mediaType, Data: c})
	}
	return a
}

func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	return readFile(tb, filepath.Join("testdata", "cosign", name))
}

// cosign itself signed these; testdata/cosign/README.md says how.
func TestCosign_takesWhatCosignSigned(t *testing.T) {
	_, manifest := goldenCosign(t)
	for _, kind := range []string{"ecdsa", "p384", "ed25519", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			c, err := fetcher.NewCosign(string(golden(t, kind+".pub")))
			if err != nil {
				t.Fatal(err)
			}
			bundle := layers(bundleType, golden(t, kind+".bundle.json"))
			old := layers(simpleType, golden(t, kind+".payload.json"))
			old.Layers[0].Annotations = map[string]string{simpleNote: string(golden(t, kind+".sig"))}
			for name, claim := range map[string]fetcher.ImageClaim{
				"bundle": claimOf(manifest, found{bundle}, nil),
				"tag":    claimOf(manifest, nil, found{old}),
			} {
				if err := c.VerifyImage(t.Context(), claim); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				other := claim
				other.Digest = digestB
				other.Content = []byte("another")
				other.Tagged = func(context.Context, string, int64) iter.Seq2[fetcher.Attachment, error] { return found{old}.all() }
				if err := c.VerifyImage(t.Context(), other); !errors.Is(err, fetcher.ErrUnsigned) {
					t.Errorf("%s, of another image: %v", name, err)
				}
				if err := newSigner(t).cosign(t).VerifyImage(t.Context(), claim); !errors.Is(err, fetcher.ErrUnsigned) {
					t.Errorf("%s, with another key: %v", name, err)
				}
			}
		})
	}
	c, _ := goldenCosign(t)
	if err := c.VerifyImage(t.Context(), claimOf(manifest, found{layers(bundleType, golden(t, "blob.bundle.json"))}, nil)); err != nil {
		t.Errorf("signature of the manifest: %v", err)
	}
	// Signed with the right key for the right image, but not to say that it may run.
	if err := c.VerifyImage(t.Context(), claimOf(manifest, found{layers(bundleType, golden(t, "attestation.bundle.json"))}, nil)); !errors.Is(err, fetcher.ErrUnsigned) {
		t.Errorf("attestation: %v", err)
	}
}

func TestCosign_oneGoodSignatureIsEnough(t *testing.T) {
	content := []byte(`{"a":"manifest"}`)
	d := digest.FromBytes(content).String()
	mine, other := newSigner(t), newSigner(t)
	both, err := fetcher.NewCosign(other.pem, "a comment\n"+mine.pem)
	if err != nil {
		t.Fatal(err)
	}
	for name, claim := range map[string]fetcher.ImageClaim{
		"a bundle":            claimOf(content, found{layers(bundleType, mine.bundle(d))}, nil),
		"several subjects":    claimOf(content, found{layers(bundleType, mine.envelope(inToto, inTotoOf(signPredicate, digestA, d)))}, nil),
		"the manifest itself": claimOf(content, found{layers(bundleType, mine.message(content))}, nil),
		"after another's":     claimOf(content, found{layers(bundleType, newSigner(t).bundle(d)), layers(bundleType, mine.bundle(d))}, nil),
		"in one artifact":     claimOf(content, found{layers(bundleType, []byte("junk"), mine.bundle(d))}, nil),
		"after errors":        claimOf(content, found{errors.New("down"), fetcher.ErrSize, layers(bundleType, mine.bundle(d))}, nil),
		"under the tag":       claimOf(content, nil, found{fetcher.Attachment{Layers: []fetcher.AttachedLayer{mine.old(simple(simpleKind, d))}}}),
		"under the tag, beside another's": claimOf(content, found{errors.New("down")}, found{fetcher.Attachment{Layers: []fetcher.AttachedLayer{
			mine.old(simple(simpleKind, d)), newSigner(t).old(simple(simpleKind, d)), {MediaType: "text/plain"},
		}}}),
	} {
		if err := both.VerifyImage(t.Context(), claim); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCosign_refuses(t *testing.T) {
	content, other := []byte(`{"a":"manifest"}`), []byte(`{"another":"manifest"}`)
	d, o := digest.FromBytes(content).String(), digest.FromBytes(other).String()
	mine, thief := newSigner(t), newSigner(t)
	edit := func(b []byte, from, to string) []byte {
		t.Helper()
		s := strings.Replace(string(b), from, to, 1)
		if s == string(b) {
			t.Fatalf("%s has no %q", b, from)
		}
		return []byte(s)
	}
	tagged := func(l fetcher.AttachedLayer) fetcher.ImageClaim {
		return claimOf(content, nil, found{fetcher.Attachment{Layers: []fetcher.AttachedLayer{l}}})
	}
	bundle := func(b []byte) fetcher.ImageClaim { return claimOf(content, found{layers(bundleType, b)}, nil) }
	changed := mine.old(simple(simpleKind, o))
	changed.Data = simple(simpleKind, d)
	unnoted := mine.old(simple(simpleKind, d))
	unnoted.Annotations = nil
	typed := mine.old(simple(simpleKind, d))
	typed.MediaType = "text/plain"
	var both map[string]any
	unmarshal(t, mine.bundle(d), &both)
	both["messageSignature"] = map[string]any{"signature": mine.sign(content)}
	for name, claim := range map[string]fetcher.ImageClaim{
		"nothing at all":              claimOf(content, nil, nil),
		"of another image":            bundle(mine.bundle(o)),
		"the other manifest itself":   bundle(mine.message(other)),
		"another key":                 bundle(thief.bundle(d)),
		"another key, the manifest":   bundle(thief.message(content)),
		"another predicate":           bundle(mine.envelope(inToto, inTotoOf("https://slsa.dev/provenance/v1", d))),
		"no subject":                  bundle(mine.envelope(inToto, inTotoOf(signPredicate))),
		"another payload type":        bundle(mine.envelope("text/plain", inTotoOf(signPredicate, d))),
		"another statement":           bundle(mine.envelope(inToto, edit(inTotoOf(signPredicate, d), "in-toto.io", "example.com"))),
		"another hash of the subject": bundle(mine.envelope(inToto, edit(inTotoOf(signPredicate, d), "sha256", "sha512"))),
		"no statement":                bundle(mine.envelope(inToto, []byte("["))),
		"changed payload":             bundle(edit(mine.bundle(d), `"payload":"e`, `"payload":"f`)),
		"changed payload type":        bundle(edit(mine.envelope("text/plain", inTotoOf(signPredicate, d)), "text/plain", inToto)),
		"no signature":                bundle(toJSON(map[string]any{"mediaType": bundleType})),
		"an empty envelope":           bundle(toJSON(map[string]any{"mediaType": bundleType, "dsseEnvelope": map[string]any{}})),
		"an empty signature":          bundle(toJSON(map[string]any{"mediaType": bundleType, "messageSignature": map[string]any{}})),
		"both kinds":                  bundle(toJSON(both)),
		"another media type inside":   bundle(edit(mine.bundle(d), bundleType, "application/json")),
		"another media type outside":  claimOf(content, found{layers("text/plain", mine.bundle(d))}, nil),
		"junk":                        bundle([]byte("\x00\xff")),
		"a list":                      bundle([]byte("[]")),
		"an artifact without layers":  claimOf(content, found{layers(bundleType)}, nil),
		"junk attached":               claimOf(content, found{fetcher.ErrSize, fetcher.ErrDigest, fetcher.ErrBadImage}, nil),

		"tag: of another image":  tagged(mine.old(simple(simpleKind, o))),
		"tag: another key":       tagged(thief.old(simple(simpleKind, d))),
		"tag: another type":      tagged(mine.old(simple("atomic container signature", d))),
		"tag: changed payload":   tagged(changed),
		"tag: no signature":      tagged(unnoted),
		"tag: another layer":     tagged(typed),
		"tag: no JSON":           tagged(mine.old([]byte("["))),
		"tag: not base64":        tagged(fetcher.AttachedLayer{MediaType: simpleType, Annotations: map[string]string{simpleNote: "*"}}),
		"tag: a manifest signed": tagged(mine.old(content)),
	} {
		t.Run(name, func(t *testing.T) {
			err := mine.cosign(t).VerifyImage(t.Context(), claim)
			if !errors.Is(err, fetcher.ErrUnsigned) || !errors.Is(err, fetcher.ErrBadImage) || !strings.Contains(fmt.Sprint(err), "cosign sign --key") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A registry that cannot be asked may be hiding a signature: that is no final no.
func TestCosign_cannotSay(t *testing.T) {
	down := errors.New("down")
	mine := newSigner(t)
	for name, claim := range map[string]fetcher.ImageClaim{
		"no list":           claimOf([]byte("x"), found{down}, nil),
		"no tag":            claimOf([]byte("x"), nil, found{down}),
		"junk, and no list": claimOf([]byte("x"), found{layers(bundleType, []byte("junk")), down}, nil),
	} {
		if err := mine.cosign(t).VerifyImage(t.Context(), claim); !errors.Is(err, down) || errors.Is(err, fetcher.ErrUnsigned) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNewCosign_refuses(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&small.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	big, _ := pem.Decode([]byte(newSigner(t).pem)) // a good one, but for what it says to be
	block := func(kind string, der []byte) []string {
		return []string{string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))}
	}
	for name, keys := range map[string][]string{
		"nothing":         nil,
		"an empty text":   {""},
		"a path":          {"cosign.pub"},
		"a private key":   block("ENCRYPTED SIGSTORE PRIVATE KEY", big.Bytes),
		"no key":          block("PUBLIC KEY", []byte("x")),
		"a small RSA key": block("PUBLIC KEY", der),
		"one bad of two":  {newSigner(t).pem, "x"},
	} {
		if c, err := fetcher.NewCosign(keys...); err == nil || c != nil {
			t.Errorf("%s: got %v, %v", name, c, err)
		}
	}
}

// FuzzBundle looks for a bundle that passes without having what cosign signed: the key is fixed, so that all workers have the same.
func FuzzBundle(f *testing.F) {
	c, manifest := goldenCosign(f)
	for _, name := range []string{"ecdsa", "blob", "p384", "attestation"} {
		f.Add(golden(f, name+".bundle.json"))
	}
	type signed struct {
		DSSE             struct{ Payload, PayloadType string } `json:"dsseEnvelope"`
		MessageSignature *struct{}                             `json:"messageSignature"`
	}
	var want signed
	if err := json.Unmarshal(golden(f, "ecdsa.bundle.json"), &want); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := c.VerifyImage(t.Context(), claimOf(manifest, found{layers(bundleType, b)}, nil))
		if err != nil {
			if !errors.Is(err, fetcher.ErrUnsigned) {
				t.Error(err)
			}
			return
		}
		var got signed
		if json.Unmarshal(b, &got) != nil || got.MessageSignature == nil && !sameBase64(got.DSSE.Payload, want.DSSE.Payload) {
			t.Errorf("takes %q", b)
		}
	})
}

func FuzzSimpleSigning(f *testing.F) {
	c, manifest := goldenCosign(f)
	for _, name := range []string{"ecdsa", "p384", "ed25519"} {
		f.Add(golden(f, name+".payload.json"), string(golden(f, name+".sig")))
	}
	f.Add(manifest, "AA==")
	good := golden(f, "ecdsa.payload.json")
	f.Fuzz(func(t *testing.T, payload []byte, signature string) {
		a := layers(simpleType, payload)
		a.Layers[0].Annotations = map[string]string{simpleNote: signature}
		switch err := c.VerifyImage(t.Context(), claimOf(manifest, nil, found{a})); {
		case err == nil && !bytes.Equal(payload, good):
			t.Errorf("takes %q", payload)
		case err != nil && !errors.Is(err, fetcher.ErrUnsigned):
			t.Error(err)
		}
	})
}

// sameBase64 compares what two texts decode to; a decoder overlooks line breaks.
func sameBase64(a, b string) bool {
	x, err1 := base64.StdEncoding.DecodeString(a)
	y, err2 := base64.StdEncoding.DecodeString(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func goldenCosign(tb testing.TB) (c *fetcher.Cosign, manifest []byte) {
	tb.Helper()
	c, err := fetcher.NewCosign(string(golden(tb, "ecdsa.pub")))
	if err != nil {
		tb.Fatal(err)
	}
	return c, golden(tb, "manifest.json")
}
