package omaha

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// decodeHash reads a hash of size bytes in either encoding that servers use: base64 (go-omaha, and Nebraska's
// main package) or hex (Nebraska's extra files). The length tells which. What is neither counts as absent (nil):
// Nebraska does not check what its users enter.
func decodeHash(s string, size int) []byte {
	s = strings.TrimSpace(s)
	if len(s) == hex.EncodedLen(size) {
		if sum, err := hex.DecodeString(s); err == nil {
			return sum
		}
		return nil
	}
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	s = strings.TrimRight(s, "=")
	if len(s) != encoding.EncodedLen(size) {
		return nil
	}
	sum, err := encoding.DecodeString(s)
	if err != nil || len(sum) != size { // line breaks, which the decoder skips, make it shorter than its length says
		return nil
	}
	return sum
}

func decodeSHA1(s string) []byte   { return decodeHash(s, sha1.Size) }
func decodeSHA256(s string) []byte { return decodeHash(s, sha256.Size) }

// applyActionHash gives the SHA-256 of Flatcar's postinstall action to the package it speaks of: the main one,
// which is the first without a SHA-256 of its own (Nebraska sends an extra file's with the file).
func applyActionHash(packages []Package, actions []Action) {
	for _, action := range actions {
		if action.Event != "postinstall" {
			continue
		}
		sum := decodeSHA256(action.SHA256)
		if sum == nil {
			continue
		}
		if slices.ContainsFunc(packages, func(p Package) bool { return slices.Equal(p.SHA256, sum) }) {
			return
		}
		if i := slices.IndexFunc(packages, func(p Package) bool { return p.SHA256 == nil }); i >= 0 {
			packages[i].SHA256 = sum
		}
		return
	}
}
