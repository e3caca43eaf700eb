package fetcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Cosign is an [ImageVerifier] that takes images signed with "cosign sign --key". It is made by [NewCosign], and safe for concurrent use.
//
// One valid signature of one of the keys, on the digest that is pinned, is enough. Signatures are looked for in this order:
//
//   - Sigstore bundles that refer to the image (application/vnd.dev.sigstore.bundle.v0.3+json; what cosign 3 writes), listed by the registry's
//     referrers API or under the tag sha256-HEX: a DSSE envelope with an in-toto statement that has this digest as a subject and
//     the predicate type https://sigstore.dev/cosign/sign/v1, or a signature of the manifest itself. Other predicates (an SBOM, a provenance) are
//     signed for other reasons, and do not count.
//   - The tag sha256-HEX.sig (what cosign 1 and 2 write): layers of type application/vnd.dev.cosign.simplesigning.v1+json with
//     their signature in the annotation dev.cosignproject.cosign/signature.
//
// Trust is in the keys alone. Certificates, transparency logs and timestamps in a signature are not looked at; a signature does not expire, and
// is withdrawn only by no longer trusting its key. The repository that was signed (docker-reference) is not looked at either: a
// digest is the same content wherever it is, and mirrors have other names. So one key for several images does not
// keep a server from offering one in place of another, nor an old one: use a key for each app, or signed releases.
//
// What is signed must be what is pinned: where an index is pinned, a signature on the manifest for one platform is not enough.
type Cosign struct {
	keys []publicKey
}

// NewCosign takes public keys as cosign writes them (cosign.pub): PEM, "PUBLIC KEY", one or more in each text. ECDSA (P-256, P-384,
// P-521), Ed25519 and RSA (2048 bits at least) keys are supported.
func NewCosign(pems ...string) (*Cosign, error) {
	c := &Cosign{}
	for i, text := range pems {
		keys, err := parseKeys(text)
		if err != nil {
			return nil, fmt.Errorf("cosign key %d: %w", i+1, err)
		}
		c.keys = append(c.keys, keys...)
	}
	if len(c.keys) == 0 {
		return nil, errors.New("cosign: no keys: give the content of cosign.pub, as cosign generate-key-pair wrote it")
	}
	return c, nil
}

// maxSignature is the size of the largest bundle or payload that is looked at, in bytes.
const maxSignature = 64 << 10

// VerifyImage implements [ImageVerifier].
func (c *Cosign) VerifyImage(ctx context.Context, image ImageClaim) error {
	var doubts doubts
	for a, err := range image.Attached(ctx, bundleType, maxSignature) {
		if err == nil {
			err = c.verifyBundles(a, image)
		}
		if err == nil {
			return nil
		}
		doubts.add(err)
	}
	for a, err := range image.Tagged(ctx, strings.Replace(image.Digest, ":", "-", 1)+".sig", maxSignature) {
		if err == nil {
			err = c.verifySimple(a, image)
		}
		if err == nil {
			return nil
		}
		doubts.add(err)
	}
	return doubts.verdict(image)
}

// doubts are why no signature convinced.
type doubts struct {
	open []error // what could not be looked at
	no   []error // what was looked at, and is no signature
}

func (d *doubts) add(err error) {
	if errors.Is(err, ErrUnsigned) || isJunk(err) {
		d.no = append(d.no, err)
		return
	}
	d.open = append(d.open, err)
}

// verdict is no only if everything could be looked at: a registry that is down hides signatures, too.
func (d *doubts) verdict(image ImageClaim) error {
	if len(d.open) > 0 {
		return fmt.Errorf("look for signatures: %w", errors.Join(d.open...))
	}
	const most = 5
	found := "there is no signature at all"
	for i, err := range d.no[:min(len(d.no), most)] {
		if found += "; "; i == 0 {
			found = ""
		}
		found += err.Error()
	}
	if n := len(d.no); n > most {
		found += fmt.Sprintf("; and %d more", n-most)
	}
	return fmt.Errorf("%w: %s: sign it with cosign sign --key cosign.key %s, or trust the key that signed it", ErrUnsigned, found, image.Reference)
}

// unsigned says what is wrong with one signature.
func unsigned(where, format string, a ...any) error {
	return &signatureError{where: where, err: fmt.Errorf(format, a...)}
}

type signatureError struct {
	where string
	err   error
}

func (e *signatureError) Error() string        { return e.where + ": " + e.err.Error() }
func (e *signatureError) Unwrap() error        { return e.err }
func (e *signatureError) Is(target error) bool { return target == ErrUnsigned }
