package fetcher

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Pin returns an image reference pinned to a digest (sha256:…): the same registry and repository, spelt out, without a tag, after the
// scheme that it has (oci://, docker://, …). A reference that has another digest already, or is none, fails with an error that
// wraps [ErrBadReference].
func Pin(ref, to string) (string, error) {
	r, err := parseReference(ref)
	if err != nil {
		return "", err
	}
	if err := checkDigest(to); err != nil {
		return "", fmt.Errorf("%w: pin %s: %w", ErrBadReference, r, err)
	}
	if r.digest != "" && r.digest != digest.Digest(to) {
		return "", fmt.Errorf("%w: pin %s: it must be %s: announce the digest that was signed", ErrBadReference, r, to)
	}
	scheme := ""
	if s, _, found := strings.Cut(strings.TrimSpace(ref), "://"); found {
		scheme = strings.ToLower(s) + "://"
	}
	if r.scheme == "" && !isHost(r.registry) { // capitals made it one: in lower case it would be a name at Docker Hub
		scheme = "oci://"
	}
	r.tag, r.digest = "", digest.Digest(to)
	return scheme + r.String(), nil
}
