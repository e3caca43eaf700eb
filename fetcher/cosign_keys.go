package fetcher

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// publicKey checks a signature of a message. The hash is the key's, never the signature's: no signature chooses how it is checked.
type publicKey func(message, signature []byte) bool

const minRSA = 2048 // bits

// parseKeys reads PEM blocks of public keys; what stands between them is no key, and not looked at.
func parseKeys(text string) ([]publicKey, error) {
	var keys []publicKey
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("it has a %.80q: give the PUBLIC KEY of cosign.pub", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("it is no public key: %w", err)
		}
		key, err := checker(parsed)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if keys == nil {
		return nil, errors.New("it has no PEM block: give the content of cosign.pub, not its path")
	}
	return keys, nil
}

// checker is how a key checks. Hashes: cosign signs with SHA-256 whatever the curve; for bundles, sigstore's registry of algorithms has the
// curve's own beside it (github.com/sigstore/sigstore, pkg/signature: LoadVerifier and LoadDefaultVerifier).
func checker(key any) (publicKey, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsaChecker(key)
	case ed25519.PublicKey:
		return func(message, signature []byte) bool {
			if ed25519.Verify(key, message, signature) {
				return true
			}
			sum := sha512.Sum512(message)
			return ed25519.VerifyWithOptions(key, sum[:], signature, &ed25519.Options{Hash: crypto.SHA512}) == nil
		}, nil
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA {
			return nil, fmt.Errorf("it is an RSA key of %d bits: use one of %d at least", n, minRSA)
		}
		return func(message, signature []byte) bool {
			sum := sha256.Sum256(message)
			return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
		}, nil
	}
	return nil, fmt.Errorf("keys of type %T are not supported: use what cosign generate-key-pair makes", key)
}

func ecdsaChecker(key *ecdsa.PublicKey) (publicKey, error) {
	var own func([]byte) []byte
	switch key.Curve {
	case elliptic.P256():
		own = nil
	case elliptic.P384():
		own = func(b []byte) []byte { sum := sha512.Sum384(b); return sum[:] }
	case elliptic.P521():
		own = func(b []byte) []byte { sum := sha512.Sum512(b); return sum[:] }
	default:
		return nil, fmt.Errorf("curve %s is not supported: use P-256, P-384 or P-521", key.Params().Name)
	}
	return func(message, signature []byte) bool {
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(key, sum[:], signature) || own != nil && ecdsa.VerifyASN1(key, own(message), signature)
	}, nil
}

// signed says whether any key signed the message.
func (c *Cosign) signed(message, signature []byte) bool {
	for _, key := range c.keys {
		if key(message, signature) {
			return true
		}
	}
	return false
}
