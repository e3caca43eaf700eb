package fetcher

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/nebraska/omahaclient/internal/secrets"
)

// ErrBadReference: what the server announced names no image: it is no image reference, has no digest, or contradicts itself.
var ErrBadReference = errors.New("unusable image reference")

// dockerHub is how references name Docker Hub; dockerHubHost is who answers for it.
const (
	dockerHub     = "docker.io"
	dockerHubHost = "registry-1.docker.io"
)

// reference is an image reference, taken apart.
type reference struct {
	registry   string        // host, and port where one is given: registry.example:5000, [::1]:5000; docker.io for Docker Hub
	repository string        // namespace/name
	tag        string        // "" where there is none
	digest     digest.Digest // "" where there is none
	scheme     string        // "https" or "http" where the reference says so
}

// String is the reference without its scheme.
func (r reference) String() string {
	s := r.registry + "/" + r.repository
	if r.tag != "" {
		s += ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + r.digest.String()
	}
	return s
}

// parseReference takes what update servers announce: REGISTRY/REPOSITORY[:TAG][@DIGEST], also after oci://, docker://, https:// or
// http://, and Docker Hub's short names. A codebase and a package name that were joined by a slash make app/@sha256:… and
// app/:1.5.0 and app/sha256:…; these are meant without it.
//
// Grammar: distribution's reference package, and the OCI distribution specification 1.1, "Pulling manifests". Without a scheme, or
// with docker://, the first part is a registry if it looks like a host, as for "docker pull"; after the other schemes it always is.
func parseReference(s string) (reference, error) {
	ref, err := splitReference(strings.TrimSpace(s))
	if err != nil {
		return reference{}, fmt.Errorf("%w %q: %w: announce REGISTRY/REPOSITORY@sha256:…", ErrBadReference, shown(s), err)
	}
	return ref, nil
}

// shown is what may be an address with a user, a password and a query, without them.
func shown(s string) string {
	s = secrets.URLs(s)
	if i := strings.LastIndexByte(s, '@'); i > 0 && strings.Contains(s[i:], "/") && !strings.HasPrefix(s[i:], "@sha256:") {
		s = "…" + s[i:]
	}
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return s
}

// maxReference is the length of the longest reference, in bytes: a host, a repository, a tag and a digest, each at its longest.
const maxReference = 1 << 10

// maxReasons is how many failures of the same kind are told one by one: of references, of blobs.
const maxReasons = 3

func splitReference(s string) (ref reference, err error) {
	if len(s) > maxReference {
		return ref, fmt.Errorf("it has %d bytes, %d are allowed", len(s), maxReference)
	}
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		scheme, rest = "", s
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "", "docker", "oci":
	case "https", "http":
		ref.scheme = scheme
	default:
		return ref, fmt.Errorf("%.80q is no scheme of an image", scheme)
	}
	if strings.ContainsAny(rest, "?#") {
		return ref, errors.New("a reference has no query and no fragment")
	}
	rest = joined().ReplaceAllString(rest, "$1")
	rest = joinedDigest().ReplaceAllString(rest, "@$1")
	if name, d, found := strings.Cut(rest, "@"); found {
		if rest, ref.digest, err = name, digest.Digest(d), checkDigest(d); err != nil {
			return ref, err
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') && i > 0 {
		rest, ref.tag = rest[:i], rest[i+1:]
		if !tagGrammar().MatchString(ref.tag) {
			return ref, fmt.Errorf("%.140q is no tag", ref.tag)
		}
	}
	first, path, found := strings.Cut(rest, "/")
	switch {
	case found && (scheme == "oci" || ref.scheme != "" || isHost(first)):
		ref.registry, ref.repository = first, path
	case ref.scheme != "":
		return ref, errors.New("it names a registry, but no repository")
	default:
		ref.registry, ref.repository = dockerHub, rest
	}
	return ref, ref.check()
}

func (r *reference) check() error {
	host, err := checkHost(r.registry)
	if err != nil {
		return err
	}
	r.registry = host
	switch host {
	case "index.docker.io", dockerHubHost:
		r.registry = dockerHub
	}
	if r.registry == dockerHub && r.repository != "" && !strings.Contains(r.repository, "/") {
		r.repository = "library/" + r.repository
	}
	if joinedDigest().MatchString("/" + r.repository[strings.LastIndexByte(r.repository, '/')+1:] + ":" + r.tag) {
		return errors.New("a digest needs a repository before it")
	}
	if len(r.repository) > 255 || !repositoryGrammar().MatchString(r.repository) {
		return fmt.Errorf("%.260q is no repository (lower case letters, digits, single . _ / and - between them)", r.repository)
	}
	return nil
}

// isHost is Docker's rule for what the first part of a name is.
func isHost(first string) bool {
	return strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first
}

// checkHost takes a host name, an IPv4 or a bracketed IPv6 address, each with or without a port, and returns it in lower case.
func checkHost(s string) (string, error) {
	bad := fmt.Errorf("%.260q is no host of a registry", s)
	host := s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		port := s[i+1:]
		host = s[:i]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' {
			return "", bad
		}
	}
	if inner, isIPv6 := strings.CutPrefix(host, "["); isIPv6 {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(inner, "]") || !addr.Is6() || addr.Zone() != "" {
			return "", bad
		}
	} else if len(host) > 253 || !hostGrammar().MatchString(host) {
		return "", bad
	}
	return strings.ToLower(s), nil
}

// isLoopback tells the registries that are this machine's own.
func isLoopback(registry string) bool {
	host := registry
	if h, _, err := net.SplitHostPort(registry); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761, section 6.3
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func checkDigest(s string) error {
	d := digest.Digest(s)
	switch err := d.Validate(); {
	case len(s) > maxReference:
		return fmt.Errorf("%d bytes are no digest (sha256: and 64 hexadecimal digits in lower case)", len(s))
	case errors.Is(err, digest.ErrDigestUnsupported), err == nil && d.Algorithm() != digest.SHA256:
		return fmt.Errorf("digest %.160q: only sha256 is supported", s)
	case err != nil:
		return fmt.Errorf("%.160q is no digest (sha256: and 64 hexadecimal digits in lower case)", s)
	}
	return nil
}

func joined() *regexp.Regexp       { return regexp.MustCompile(`/([@:][^/]*)$`) }
func joinedDigest() *regexp.Regexp { return regexp.MustCompile(`/(sha256:[0-9a-f]{64})$`) }
func tagGrammar() *regexp.Regexp   { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`) }
func hostGrammar() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)
}
func repositoryGrammar() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
}

// announced is what a source says about an image: where it is, best place first, and what it is.
type announced struct {
	refs   []reference
	digest digest.Digest // "" where there is none
}

// readSource takes all references of a source and every digest that it knows; they must not contradict each other. A place that
// cannot be understood is left out as long as there is another one.
func readSource(src Source) (announced, error) {
	var a announced
	var bad []error
	for _, u := range src.URLs {
		ref, err := parseReference(u)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		if err := a.agree(ref.digest, ref.String()); err != nil {
			return a, err
		}
		a.refs = append(a.refs, ref)
	}
	if len(a.refs) == 0 {
		if bad == nil {
			return a, fmt.Errorf("%w: the package has no URL: set the codebase to REGISTRY/REPOSITORY@sha256:…", ErrBadReference)
		}
		if more := len(bad) - maxReasons; more > 0 {
			bad = append(bad[:maxReasons], fmt.Errorf("%w: so are %d more", ErrBadReference, more))
		}
		return a, errors.Join(bad...)
	}
	if n := len(src.SHA256); n != 0 {
		if n != 32 {
			return a, fmt.Errorf("%w: its SHA-256 has %d bytes, not 32: correct it on the server", ErrBadReference, n)
		}
		if err := a.agree(digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(src.SHA256)), "the package's SHA-256"); err != nil {
			return a, err
		}
	}
	d, err := metadataDigest(src.Metadata)
	if err != nil {
		return a, err
	}
	return a, a.agree(d, "the package's metadata")
}

func (a *announced) agree(d digest.Digest, who string) error {
	switch {
	case d == "" || d == a.digest:
	case a.digest == "":
		a.digest = d
	default:
		return fmt.Errorf("%w: %s says %s, but %s was said before: announce one digest", ErrBadReference, who, d, a.digest)
	}
	return nil
}

// metadataDigest finds the digest in a package's metadata, which is the digest itself or an OCI descriptor: {"digest": "sha256:…"}.
// Metadata that is neither says nothing.
func metadataDigest(metadata []byte) (digest.Digest, error) {
	text := strings.TrimSpace(string(metadata))
	if strings.HasPrefix(text, "{") {
		var descriptor struct {
			Digest string `json:"digest"`
		}
		_ = json.Unmarshal([]byte(text), &descriptor) // other metadata than a descriptor has no digest
		text = descriptor.Digest
	} else if !strings.HasPrefix(text, "sha256:") {
		return "", nil
	}
	if text == "" {
		return "", nil
	}
	if err := checkDigest(text); err != nil {
		return "", fmt.Errorf("%w: metadata: %w: correct it on the server", ErrBadReference, err)
	}
	return digest.Digest(text), nil
}
