package omaha

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// CUPKey is a public key that a server signs its answers with (CUP-ECDSA, version 2 of Omaha's Client Update Protocol).
//
// With keys, a [Client] adds cup2key=ID:NONCE and cup2hreq=SHA256 to the query of each attempt, with a new nonce of 32 random bytes,
// and believes an answer only with a signature over the request's body, the answer's body and that nonce: in the header
// X-Cup-Server-Proof, else in a weak ETag (W/"…"), else in any other. So nobody underway can change the request unnoticed, or change,
// invent or replay an answer. The body is signed without compression, as the server wrote it and as the client parses it.
//
// Not protected are the answer's headers and status (so with keys no Retry-After is heeded, no content type looked at, no cookie
// kept and no status taken for the last word), the payloads themselves, and what nobody can force: that an answer arrives, and that
// a request is not sent to the server once more.
//
// Source: docs/updater/cup.md and components/client_update_protocol of the Chromium project.
type CUPKey struct {
	ID  string           // 1 to 32 letters, digits, - and _; Google's servers know decimal numbers only
	Key *ecdsa.PublicKey // on P-256
}

// ParseCUPKey reads "ID:KEY", where KEY is a P-256 public key (SubjectPublicKeyInfo): base64 of its DER form, or PEM, as
// "openssl ec -pubout" writes it.
func ParseCUPKey(s string) (CUPKey, error) {
	id, text, found := strings.Cut(strings.TrimSpace(s), ":")
	if !found {
		return CUPKey{}, errors.New(`CUP key: want ID:KEY, such as 1:MFkwEwYHKoZI…, but there is no ":"`)
	}
	der, err := cupDER(text)
	if err != nil {
		return CUPKey{}, fmt.Errorf("CUP key %q: %w", printable(id, maxKeyID), err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return CUPKey{}, fmt.Errorf("CUP key %q: no public key (SubjectPublicKeyInfo, as \"openssl ec -pubout\" writes it): %w",
			printable(id, maxKeyID), err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return CUPKey{}, fmt.Errorf("CUP key %q: a key for ECDSA on P-256 is wanted, this is a %T", printable(id, maxKeyID), parsed)
	}
	k := CUPKey{ID: id, Key: key}
	return k, k.validate()
}

// cupDER decodes the half behind the colon.
func cupDER(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "-----BEGIN") {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("neither base64 nor PEM: %w", err)
		}
		return der, nil
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, errors.New("broken PEM")
	case strings.Contains(block.Type, "PRIVATE"):
		return nil, errors.New("this is the private half, which only the server may have: give the public one (openssl ec -pubout)")
	case block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) > 0:
		return nil, errors.New("want one PEM block, PUBLIC KEY")
	}
	return block.Bytes, nil
}

// String returns the key as ParseCUPKey takes it, with base64; "" for a key that Validate would refuse.
func (k CUPKey) String() string {
	if k.validate() != nil {
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(k.Key)
	if err != nil {
		return ""
	}
	return k.ID + ":" + base64.StdEncoding.EncodeToString(der)
}

const maxKeyID = 32

func (k CUPKey) validate() error {
	if !isKeyID(k.ID) {
		return fmt.Errorf("CUP key %q: want an id of 1 to %d letters, digits, - and _ before the colon", printable(k.ID, maxKeyID), maxKeyID)
	}
	if k.Key == nil || k.Key.Curve != elliptic.P256() {
		return fmt.Errorf("CUP key %q: want a key on the curve P-256", k.ID)
	}
	if _, err := k.Key.ECDH(); err != nil {
		return fmt.Errorf("CUP key %q: the point is not on the curve P-256", k.ID)
	}
	return nil
}

func isKeyID(s string) bool {
	return s != "" && len(s) <= maxKeyID && !strings.ContainsFunc(s, func(r rune) bool {
		return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// validateKeys returns all mistakes in the keys.
func validateKeys(keys []CUPKey) (mistakes []error) {
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		if err := k.validate(); err != nil {
			mistakes = append(mistakes, err)
		} else if seen[k.ID] {
			mistakes = append(mistakes, fmt.Errorf("CUP key %q: the id is given twice", k.ID))
		}
		seen[k.ID] = true
	}
	return mistakes
}
