package fetcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The names in a bundle: sigstore's protobuf-specs, sigstore_bundle.proto; in-toto's attestation framework, Statement v1; and
// cosign 3, pkg/types/predicate.go.
const (
	bundleType     = "application/vnd.dev.sigstore.bundle.v0.3+json"
	statementDSSE  = "application/vnd.in-toto+json"
	signPredicate  = "https://sigstore.dev/cosign/sign/v1"
	inTotoPrefix   = "https://in-toto.io/Statement/" // v1; v0.1 has the same fields
	maxDSSESigners = 8
)

// bundle is a sigstore bundle (protobuf's JSON), as far as trust in a key needs it.
type bundle struct {
	MediaType        string `json:"mediaType"`
	MessageSignature *struct {
		MessageDigest struct {
			Algorithm string `json:"algorithm"`
			Digest    []byte `json:"digest"`
		} `json:"messageDigest"`
		Signature []byte `json:"signature"`
	} `json:"messageSignature"`
	DSSE *envelope `json:"dsseEnvelope"`
}

// envelope is a DSSE envelope (github.com/secure-systems-lab/dsse, envelope.md).
type envelope struct {
	Payload     []byte `json:"payload"`
	PayloadType string `json:"payloadType"`
	Signatures  []struct {
		Sig []byte `json:"sig"`
	} `json:"signatures"`
}

// statement is an in-toto statement.
type statement struct {
	Type          string `json:"_type"`
	PredicateType string `json:"predicateType"`
	Subject       []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

// verifyBundles looks for one good bundle in an artifact.
func (c *Cosign) verifyBundles(a Attachment, image ImageClaim) error {
	err := unsigned(a.Where, "it has no bundle")
	for _, l := range a.Layers {
		if BaseType(l.MediaType) != bundleType {
			continue
		}
		why := c.verifyBundle(l.Data, image)
		if why == nil {
			return nil
		}
		err = unsigned(a.Where, "%w", why)
	}
	return err
}

// verifyBundle is nil if a trusted key vouches in this bundle for the image. The key's hint in it is not looked at: each key is tried.
func (c *Cosign) verifyBundle(content []byte, image ImageClaim) error {
	var b bundle
	if err := json.Unmarshal(content, &b); err != nil {
		return fmt.Errorf("it is no bundle: %w", err)
	}
	switch {
	case !strings.HasPrefix(b.MediaType, "application/vnd.dev.sigstore.bundle"):
		return fmt.Errorf("it is no bundle, but %.80q", b.MediaType)
	case b.DSSE != nil && b.MessageSignature != nil:
		return errors.New("its bundle has two signatures: sign it again")
	case b.DSSE != nil:
		return c.verifyEnvelope(b.DSSE, image)
	case b.MessageSignature != nil:
		if !c.signed(image.Content, b.MessageSignature.Signature) {
			return errors.New("another key, or for another image")
		}
		return nil
	}
	return errors.New("its bundle has no signature")
}

// verifyEnvelope checks the signature first, and reads the payload then.
func (c *Cosign) verifyEnvelope(e *envelope, image ImageClaim) error {
	message := preAuthentication(e.PayloadType, e.Payload)
	signers := e.Signatures[:min(len(e.Signatures), maxDSSESigners)]
	good := slices.ContainsFunc(signers, func(s struct {
		Sig []byte `json:"sig"`
	},
	) bool {
		return c.signed(message, s.Sig)
	})
	if !good {
		return errors.New("it was signed by another key")
	}
	if e.PayloadType != statementDSSE {
		return fmt.Errorf("what was signed is %.80q, and no statement", e.PayloadType)
	}
	var s statement
	if err := json.Unmarshal(e.Payload, &s); err != nil {
		return fmt.Errorf("what was signed is no statement: %w", err)
	}
	switch {
	case !strings.HasPrefix(s.Type, inTotoPrefix):
		return fmt.Errorf("what was signed is %.80q, and no in-toto statement", s.Type)
	case s.PredicateType != signPredicate:
		return fmt.Errorf("what was signed is %.80q, which is not for saying that it may run", s.PredicateType)
	}
	for _, subject := range s.Subject {
		if "sha256:"+subject.Digest["sha256"] == image.Digest {
			return nil
		}
	}
	return errors.New("another image was signed")
}

// preAuthentication is what DSSE signs (github.com/secure-systems-lab/dsse, protocol.md: PAE).
func preAuthentication(payloadType string, payload []byte) []byte {
	head := "DSSEv1 " + strconv.Itoa(len(payloadType)) + " " + payloadType + " " + strconv.Itoa(len(payload)) + " "
	return append([]byte(head), payload...)
}
