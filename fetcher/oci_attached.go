package fetcher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What is looked at of the artifacts that refer to an image; anybody who can push to the repository can attach more.
const (
	maxAttachments  = 16      // of one type at one registry or mirror: the newest
	maxAttachLayers = 32      // of one of them: the last ones, which cosign adds last
	maxAttachment   = 1 << 20 // bytes of its manifest, and of its layers together
)

// Attachment is an artifact that somebody attached to an image: a signature, a statement, a list of what is in it. That it is
// attached says nothing about who did it.
type Attachment struct {
	Digest       string            // of the artifact's manifest: sha256:…
	ArtifactType string            // as that says; its config's media type where it does not
	Annotations  map[string]string // of the manifest
	Layers       []AttachedLayer   // the last 32 where it has more
	Where        string            // host/repository@digest, of the registry or mirror that had it; for messages
}

// AttachedLayer is a blob of an Attachment, verified by its digest.
type AttachedLayer struct {
	MediaType   string
	Digest      string // sha256:…
	Annotations map[string]string
	Data        []byte
}

// Attached returns the artifacts of a type that refer to the image that src names, in the repository that it is in: those that the registry's
// referrers API lists, or where it has none, the index under the tag sha256-HEX (OCI distribution specification 1.1, "Listing
// Referrers" and "Referrers Tag Schema"). None at all is no error. An empty artifactType means all types.
//
// The image is the one that Fetch would pin. A tag whose digest is said nowhere is resolved at once, whatever AllowTags says: what is
// attached must prove itself anyhow, and nothing is pinned by it.
//
// Every registry and mirror that may resolve tags is asked, each for at most 16 (the newest, as their annotation
// org.opencontainers.image.created has it); what several have is returned once, as the first has it. Each manifest and layer is verified by its
// digest and must refer to the image. An artifact with a layer of more than limit bytes, or of more than 1 MiB in all, is not returned.
//
// The error joins what went wrong at single places, and with single artifacts; what was found elsewhere is returned beside it. So it
// matters only to callers who did not find what they need. Attached is safe for concurrent use, and writes nothing to disk.
func (o OCI) Attached(ctx context.Context, src Source, artifactType string, limit int64) ([]Attachment, error) {
	source, err := readSource(src)
	if err != nil {
		return nil, err
	}
	regs, closeIdle, err := o.registries(source.refs)
	if err != nil {
		return nil, err
	}
	defer closeIdle()
	l := o.lookup(regs)
	if source.digest == "" {
		if source.digest, err = l.resolve(ctx); err != nil {
			return nil, fmt.Errorf("resolve %s: %w", source.refs[0], err)
		}
	}
	var all []Attachment
	var errs []error
	for a, err := range l.attached(ctx, source.digest, artifactType, limit) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, a)
	}
	return all, errors.Join(errs...)
}

// attached yields what refers to an image, place by place, each when it is asked for. An error does not end the sequence.
func (l *lookup) attached(ctx context.Context, subject digest.Digest, artifactType string, limit int64) iter.Seq2[Attachment, error] {
	return func(yield func(Attachment, error) bool) {
		seen := map[digest.Digest]bool{}
		for _, p := range l.registries.resolvers() {
			for a, err := range l.attachedAt(ctx, p, subject, artifactType, limit, seen) {
				if !yield(a, err) || ctx.Err() != nil {
					return
				}
			}
		}
	}
}

// attachedAt yields what one place has that was not seen before.
func (l *lookup) attachedAt(
	ctx context.Context, p place, subject digest.Digest, artifactType string, limit int64, seen map[digest.Digest]bool,
) iter.Seq2[Attachment, error] {
	return func(yield func(Attachment, error) bool) {
		list, err := l.referrers(ctx, p, subject, artifactType)
		if err != nil && !yield(Attachment{}, fmt.Errorf("what is attached to %s: %w", p.name(subject.String()), err)) {
			return
		}
		for _, d := range list {
			if seen[d.Digest] {
				continue
			}
			a, err := l.referrer(ctx, p, d, subject, artifactType, limit)
			if errors.Is(err, errAnotherType) {
				continue
			}
			if seen[d.Digest] = err == nil; !yield(a, err) {
				return
			}
		}
	}
}

// tagged yields what is under a tag, place by place, as attached does. What it refers to is the caller's to find out.
func (l *lookup) tagged(ctx context.Context, tag string, limit int64) iter.Seq2[Attachment, error] {
	return func(yield func(Attachment, error) bool) {
		seen := map[string]bool{}
		for _, p := range l.registries.resolvers() {
			got, err := l.get(ctx, p.url("manifests", tag), maxAttachment)
			var a Attachment
			switch {
			case errors.Is(err, errNotThere):
				continue
			case err != nil:
				err = fmt.Errorf("manifest of %s: %w", p.name(tag), err)
			default:
				a, err = l.attachment(ctx, p, got.body, limit)
			}
			if err == nil && seen[a.Digest] {
				continue
			}
			if seen[a.Digest] = err == nil; !yield(a, err) || ctx.Err() != nil {
				return
			}
		}
	}
}

// errAnotherType says that an artifact is not of the type that was asked for. Indexes under a fallback tag do not always say the type.
var errAnotherType = errors.New("of another type")

// referrer fetches one artifact and checks that it is what the list claims.
func (l *lookup) referrer(ctx context.Context, p place, d ocispec.Descriptor, subject digest.Digest, artifactType string, limit int64) (Attachment, error) {
	fail := func(err error) (Attachment, error) {
		return Attachment{}, fmt.Errorf("artifact %s: %w", p.name(d.Digest.String()), err)
	}
	if err := checkDescriptor(d, maxAttachment); err != nil {
		return fail(err)
	}
	content, err := l.content(ctx, p, "manifests", d, maxAttachment)
	if err != nil {
		return fail(err)
	}
	var m artifact
	if err := json.Unmarshal(content, &m); err != nil {
		return fail(fmt.Errorf("%w: it is no manifest: %w", ErrBadImage, err))
	}
	if artifactType != "" && m.artifactType() != artifactType {
		return fail(errAnotherType)
	}
	if m.Subject == nil || m.Subject.Digest != subject {
		return fail(fmt.Errorf("%w: it refers to another image", ErrBadImage))
	}
	return l.attachment(ctx, p, content, limit)
}

// artifact is the manifest of an artifact.
type artifact struct {
	manifest

	ArtifactType string              `json:"artifactType"`
	Annotations  map[string]string   `json:"annotations"`
	Subject      *ocispec.Descriptor `json:"subject"`
}

// artifactType is the type as registries have to list it (OCI distribution specification 1.1, "Listing Referrers").
func (m *artifact) artifactType() string { return cmp.Or(m.ArtifactType, m.Config.MediaType) }

// attachment fetches the layers of a manifest that was verified, or came by a tag.
func (l *lookup) attachment(ctx context.Context, p place, content []byte, limit int64) (Attachment, error) {
	self := digest.FromBytes(content)
	fail := func(err error) (Attachment, error) {
		return Attachment{}, fmt.Errorf("artifact %s: %w", p.name(self.String()), err)
	}
	var m artifact
	if err := json.Unmarshal(content, &m); err != nil {
		return fail(fmt.Errorf("%w: it is no manifest: %w", ErrBadImage, err))
	}
	a := Attachment{Digest: self.String(), ArtifactType: m.artifactType(), Annotations: m.Annotations, Where: p.name(self.String())}
	layers := m.Layers[max(0, len(m.Layers)-maxAttachLayers):]
	left := int64(maxAttachment)
	for _, d := range layers {
		if err := checkDescriptor(d, min(limit, left)); err != nil {
			return fail(fmt.Errorf("layer: %w", err))
		}
		left -= d.Size
	}
	for _, d := range layers {
		data, err := l.content(ctx, p, "blobs", d, d.Size)
		if err != nil {
			return fail(fmt.Errorf("layer %s: %w", d.Digest, err))
		}
		a.Layers = append(a.Layers, AttachedLayer{MediaType: d.MediaType, Digest: d.Digest.String(), Annotations: d.Annotations, Data: data})
	}
	return a, nil
}

// newest keeps the newest entries of a list, as far as it tells: by their annotation, and later ones first where that is missing.
func newest(list []ocispec.Descriptor) []ocispec.Descriptor {
	list = slices.Clone(list)
	slices.Reverse(list)
	created := func(d ocispec.Descriptor) time.Time {
		t, _ := time.Parse(time.RFC3339, d.Annotations[ocispec.AnnotationCreated])
		return t
	}
	slices.SortStableFunc(list, func(a, b ocispec.Descriptor) int { return created(b).Compare(created(a)) })
	return list[:min(len(list), maxAttachments)]
}

// parseReferrers reads a page of referrers, or a fallback index, and keeps what can be of the type that is looked for.
func parseReferrers(content []byte, artifactType string) ([]ocispec.Descriptor, error) {
	var index struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(content, &index); err != nil {
		return nil, fmt.Errorf("%w: its list of referrers is no index: %w", ErrBadImage, err)
	}
	return slices.DeleteFunc(index.Manifests, func(d ocispec.Descriptor) bool {
		switch d.ArtifactType {
		// Clients that keep the fallback index up to date write the config's type, or none.
		case artifactType, "", ocispec.MediaTypeEmptyJSON, ocispec.MediaTypeImageConfig:
			return checkDescriptor(d, maxAttachment) != nil
		}
		return artifactType != "" || checkDescriptor(d, maxAttachment) != nil
	}), nil
}

// fallbackTag is the tag under which clients keep the index of what refers to a digest, where the registry does not; with a suffix, the
// tags of cosign's before there were referrers.
func fallbackTag(d digest.Digest) string { return strings.Replace(d.String(), ":", "-", 1) }

// isIndexType says whether an answer of the referrers API is one: some registries answer what they do not know with a page for people.
func isIndexType(h http.Header) bool {
	return BaseType(h.Get("Content-Type")) == ocispec.MediaTypeImageIndex
}
