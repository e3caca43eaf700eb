package fetcher

import (
	"context"
	"errors"
	"io"
	"net/url"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FileName is fileName.
func FileName(label string) string { return fileName(label) }

// ParsedReference is what parseReference makes of a reference.
type ParsedReference struct{ Registry, Repository, Tag, Digest, Scheme string }

// ParseReference is parseReference, and what String makes of its result.
func ParseReference(s string) (p ParsedReference, again string, err error) {
	r, err := parseReference(s)
	return ParsedReference{r.registry, r.repository, r.tag, r.digest.String(), r.scheme}, r.String(), err
}

// SourceDigest returns the digest that a source pins.
func SourceDigest(src Source) (string, error) {
	a, err := readSource(src)
	return a.digest.String(), err
}

// CheckManifest parses a manifest and everything that hangs on it: the choice for a platform, or its parts and their total.
func CheckManifest(content []byte, platform string) (chosen string, parts int, err error) {
	m, err := parseManifest(content)
	if err != nil {
		return "", 0, err
	}
	if !m.isIndex() {
		list, err := m.parts()
		if n, ok := total(list); err == nil && (n < 0 || !ok) {
			return "", len(list), ErrSize
		}
		return "", len(list), err
	}
	machine, err := parsePlatform(platform)
	if err != nil {
		return "", 0, err
	}
	d, err := m.choose(machine)
	return d.Digest.String(), 0, err
}

// ParseHosts reads a hosts.toml and lists its hosts: URL and what they may.
func ParseHosts(content, dir string) ([]string, error) {
	hosts, err := parseHosts(content, dir, &url.URL{Scheme: "https", Host: "registry.example", Path: "/v2"})
	var list []string
	for _, h := range hosts {
		s := h.url.String()
		if h.pull {
			s += " pull"
		}
		if h.resolve {
			s += " resolve"
		}
		if h.tls != nil {
			s += " tls"
		}
		list = append(list, s)
	}
	return list, err
}

// WithoutLinks is o on a file system without hard links.
func WithoutLinks(o OCI) OCI {
	o.link = func(string, string) error { return errors.ErrUnsupported }
	return o
}

// ParseReferrers reads a list of referrers and keeps those that are asked for.
func ParseReferrers(content []byte, artifactType string) ([]ocispec.Descriptor, error) {
	list, err := parseReferrers(content, artifactType)
	if err != nil {
		return nil, err
	}
	return newest(list), nil
}

// CopyVerified copies a blob with this digest.
func CopyVerified(ctx context.Context, to io.Writer, from io.Reader, sum string) error {
	return copyVerified(ctx, to, from, digest.Digest(sum))
}
