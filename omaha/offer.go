package omaha

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/nebraska/omahaclient/internal/secrets"
)

const (
	maxSize    = 1 << 50 // bytes of a package; more is a mistake
	maxVersion = 256     // bytes of a version
)

// reader turns the elements of one answer into offers.
type reader struct {
	urlBytes int          // left of maxURLsTotal
	hide     *secrets.Set // what no error may show
}

// manifests returns what an update check offers, or why it cannot be used. Nebraska sends one manifest; several
// share the check's codebases.
func (r *reader) manifests(check *checkElement) ([]Manifest, error) {
	if len(check.Manifests) == 0 {
		return nil, errors.New("the server grants an update without a manifest: is the channel's package complete?")
	}
	codebases := make([]string, len(check.URLs))
	for i, u := range check.URLs {
		codebases[i] = u.CodeBase
	}
	manifests := make([]Manifest, 0, len(check.Manifests))
	for i := range check.Manifests {
		m, err := r.manifest(&check.Manifests[i], codebases)
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, m)
	}
	return manifests, nil
}

func (r *reader) manifest(e *manifestElement, codebases []string) (Manifest, error) {
	m := Manifest{
		Version:     strings.TrimSpace(e.Version),
		URLs:        codebases,
		IsFloor:     isTrue(e.IsFloor),
		IsTarget:    isTrue(e.IsTarget),
		FloorReason: e.FloorReason,
	}
	if err := r.checkVersion(m.Version); err != nil {
		return m, err
	}
	if len(e.Packages) == 0 {
		return m, fmt.Errorf("version %s has no package", foreign(r.hide, m.Version, 80))
	}
	m.Packages = make([]Package, len(e.Packages))
	for i := range e.Packages {
		p, err := r.pkg(&e.Packages[i], codebases)
		if err != nil {
			return m, fmt.Errorf("version %s, package %q: %w", foreign(r.hide, m.Version, 80), foreign(r.hide, e.Packages[i].Name, 80), err)
		}
		m.Packages[i] = p
	}
	for i := range e.Actions {
		m.Actions = append(m.Actions, e.Actions[i].action())
	}
	applyActionHash(m.Packages, m.Actions)
	return m, nil
}

// checkVersion takes any printable version: servers offer versions that are not semantic ones.
func (r *reader) checkVersion(v string) error {
	if v == "" {
		return errors.New("the offered version is empty")
	}
	if len(v) > maxVersion || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }) {
		return fmt.Errorf("the offered version %q is none", foreign(r.hide, v, 80))
	}
	return nil
}

func (r *reader) pkg(e *packageElement, codebases []string) (Package, error) {
	size, err := r.parseSize(e.Size)
	if err != nil {
		return Package{}, err
	}
	p := Package{
		Name:     e.Name,
		Size:     size,
		SHA1:     decodeSHA1(e.SHA1),
		SHA256:   decodeSHA256(e.SHA256),
		Required: isTrue(e.Required),
		URLs:     joinURLs(codebases, e.Name),
	}
	if e.Metadata != nil {
		p.MediaType = strings.TrimSpace(e.Metadata.ContentType)
		p.Metadata = e.Metadata.Text
	}
	if len(p.URLs) == 0 {
		return p, errors.New("no URL to fetch it from: give the package a URL on the server")
	}
	for _, u := range p.URLs {
		r.urlBytes -= len(u)
	}
	if r.urlBytes < 0 {
		return p, errors.New("more packages and mirrors than this client reads")
	}
	return p, nil
}

// parseSize reads a package's size. None, and 0, mean unknown.
func (r *reader) parseSize(s string) (int64, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > maxSize {
		return 0, fmt.Errorf("its size %q is no number of bytes", foreign(r.hide, s, 40))
	}
	return n, nil
}

func (e *actionElement) action() Action {
	failures, err := strconv.ParseUint(strings.TrimSpace(e.MaxFailureCountPerURL), 10, 32)
	if err != nil {
		failures = 0 // update_engine: 0 means its default
	}
	return Action{
		Event:                 e.Event,
		DisplayVersion:        e.DisplayVersion,
		SHA256:                e.SHA256,
		NeedsAdmin:            isTrue(e.NeedsAdmin),
		IsDeltaPayload:        isTrue(e.IsDeltaPayload),
		DisablePayloadBackoff: isTrue(e.DisablePayloadBackoff),
		MaxFailureCountPerURL: uint(failures),
		MetadataSignatureRsa:  e.MetadataSignatureRsa,
		MetadataSize:          e.MetadataSize,
		Deadline:              e.Deadline,
		MoreInfo:              e.MoreInfo,
		Prompt:                isTrue(e.Prompt),
	}
}

// isTrue reads a boolean attribute. Junk counts as false.
func isTrue(s string) bool {
	b, err := strconv.ParseBool(strings.TrimSpace(s))
	return err == nil && b
}
