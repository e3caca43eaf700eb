package fetcher

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// The names in what cosign 1 and 2 write: cosign, specs/SIGNATURE_SPEC.md; sigstore, pkg/signature/payload.
const (
	simpleType       = "application/vnd.dev.cosign.simplesigning.v1+json"
	simpleAnnotation = "dev.cosignproject.cosign/signature"
	simpleKind       = "cosign container image signature"
)

// simplePayload is what is signed.
type simplePayload struct {
	Critical struct {
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
}

// verifySimple looks for one good signature among the layers under the tag; the last ones are the newest.
func (c *Cosign) verifySimple(a Attachment, image ImageClaim) error {
	err := unsigned(a.Where, "it has no signature")
	for _, l := range slices.Backward(a.Layers) {
		if BaseType(l.MediaType) == simpleType {
			why := c.verifyPayload(l.Data, l.Annotations[simpleAnnotation], image)
			if why == nil {
				return nil
			}
			err = unsigned(a.Where, "%w", why)
		}
	}
	return err
}

// verifyPayload checks the signature first, and reads the payload then.
func (c *Cosign) verifyPayload(payload []byte, signature string, image ImageClaim) error {
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || len(raw) == 0 {
		return errors.New("its annotation " + simpleAnnotation + " is no signature")
	}
	if !c.signed(payload, raw) {
		return errors.New("it was signed by another key")
	}
	var p simplePayload
	if err := json.Unmarshal(payload, &p); err != nil {
		return fmt.Errorf("what was signed is no payload: %w", err)
	}
	switch {
	case p.Critical.Type != simpleKind:
		return fmt.Errorf("what was signed is %.80q, and no image", p.Critical.Type)
	case p.Critical.Image.Digest != image.Digest:
		return errors.New("another image was signed")
	}
	return nil
}
