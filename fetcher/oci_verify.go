package fetcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrUnsigned: OCI.Verifier found no valid signature of a trusted key on the image. It wraps [ErrBadImage].
var ErrUnsigned = fmt.Errorf("%w: no trusted key signed it", ErrBadImage)

// ImageVerifier decides whether an image may be taken. [Cosign] is one; others (keyless signatures, Notary Project's) fit in a module of
// their own.
//
// VerifyImage is asked about each image once its pinned manifest or index is known, before anything that this names is fetched, and
// again whenever a Fetch finds the image finished. An error that wraps [ErrUnsigned] is its no; any other says that it could not be
// found out, and the fetch counts as a failed transfer, which is tried again. It is called from several goroutines at the same time.
type ImageVerifier interface {
	VerifyImage(ctx context.Context, image ImageClaim) error
}

// ImageClaim is an image that nobody has vouched for yet.
type ImageClaim struct {
	Reference string // registry/repository@digest, the digest being the pinned one; the first of several mirrors
	Digest    string // sha256:… of Content, the one that must be signed
	MediaType string // of an index or a manifest, as Content says itself
	Content   []byte // the pinned index or manifest, verbatim; not to be changed

	// Attached yields the artifacts of a type that refer to Digest, and Tagged what is under a tag in the image's repository, from each
	// registry and mirror: fetched when asked for, verified by their digests, within the limits of [OCI.Attached]. An error is about one
	// place or artifact, and does not end the sequence; ctx's does.
	//
	// What they yielded is kept in Job.Dir when VerifyImage has returned nil, and is yielded again when the same image is verified there
	// once more: that needs no registry, and proves as much as before.
	Attached func(ctx context.Context, artifactType string, limit int64) iter.Seq2[Attachment, error]
	Tagged   func(ctx context.Context, tag string, limit int64) iter.Seq2[Attachment, error]
}

const (
	proofName = "proof.json" // in Job.Dir: what a verifier was convinced by
	maxProof  = 4 << 20      // bytes; a larger one is not kept, and asked for again
)

// proof is what convinced a verifier.
type proof struct {
	Digest digest.Digest `json:"digest"`
	Found  []foundProof  `json:"found"`
}

// foundProof is an attachment, and by what it was looked for: an artifact type, or a tag.
type foundProof struct {
	Kind       string     `json:"kind"` // "attached" or "tagged"
	Name       string     `json:"name"`
	Attachment Attachment `json:"attachment"`
}

// verify asks the verifier, by the proof of an earlier time where that still convinces it.
func (p *pull) verify(ctx context.Context, d ocispec.Descriptor, content []byte) error {
	verifier := p.oci.Verifier
	if verifier == nil {
		return nil
	}
	dir, err := os.OpenRoot(p.job.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	image := ImageClaim{
		Reference: p.source.refs[0].registry + "/" + p.source.refs[0].repository + "@" + d.Digest.String(),
		Digest:    d.Digest.String(), MediaType: d.MediaType, Content: content,
	}
	before, kept := readProof(dir, d.Digest)
	if kept && verifier.VerifyImage(ctx, image.by(before)) == nil {
		return nil
	}
	record := proof{Digest: d.Digest}
	if err := verifier.VerifyImage(ctx, image.from(p.oci.lookup(p.registries), d.Digest, &record)); err != nil {
		return fmt.Errorf("verify %s: %w", image.Reference, err)
	}
	if n := len(record.Found); n > 1 { // what was looked at last mostly suffices; the rest may be anybody's
		last := proof{Digest: d.Digest, Found: record.Found[n-1:]}
		if verifier.VerifyImage(ctx, image.by(last)) == nil {
			record = last
		}
	}
	return record.write(dir)
}

func readProof(dir *os.Root, of digest.Digest) (p proof, found bool) {
	content, err := dir.ReadFile(proofName)
	return p, err == nil && json.Unmarshal(content, &p) == nil && p.Digest == of
}

func (p *proof) write(dir *os.Root) error {
	content, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if before, err := dir.ReadFile(proofName); len(content) > maxProof || err == nil && bytes.Equal(before, content) {
		return nil
	}
	return writeFile(dir, proofName, content)
}

// by is the claim with nothing but a kept proof.
func (c ImageClaim) by(kept proof) ImageClaim {
	replay := func(kind string) func(context.Context, string, int64) iter.Seq2[Attachment, error] {
		return func(_ context.Context, name string, limit int64) iter.Seq2[Attachment, error] {
			return func(yield func(Attachment, error) bool) {
				for _, f := range kept.Found {
					if f.Kind == kind && f.Name == name && f.Attachment.intact(limit) && !yield(f.Attachment, nil) {
						return
					}
				}
			}
		}
	}
	c.Attached, c.Tagged = replay("attached"), replay("tagged")
	return c
}

// intact says whether the disk has not changed it, and it is small enough.
func (a Attachment) intact(limit int64) bool {
	for _, l := range a.Layers {
		if int64(len(l.Data)) > limit || digest.FromBytes(l.Data).String() != l.Digest {
			return false
		}
	}
	return true
}

// from is the claim with what registries have. What it yields is recorded.
func (c ImageClaim) from(l *lookup, subject digest.Digest, record *proof) ImageClaim {
	recorded := func(kind, name string, all iter.Seq2[Attachment, error]) iter.Seq2[Attachment, error] {
		return func(yield func(Attachment, error) bool) {
			for a, err := range all {
				if err == nil {
					record.Found = append(record.Found, foundProof{kind, name, a})
				}
				if !yield(a, err) {
					return
				}
			}
		}
	}
	c.Attached = func(ctx context.Context, artifactType string, limit int64) iter.Seq2[Attachment, error] {
		return recorded("attached", artifactType, l.attached(ctx, subject, artifactType, limit))
	}
	c.Tagged = func(ctx context.Context, tag string, limit int64) iter.Seq2[Attachment, error] {
		if !tagGrammar().MatchString(tag) {
			return func(yield func(Attachment, error) bool) { yield(Attachment{}, fmt.Errorf("%q is no tag", tag)) }
		}
		return recorded("tagged", tag, l.tagged(ctx, tag, limit))
	}
	return c
}

// isJunk tells what is wrong with an attachment from what kept us from looking at it.
func isJunk(err error) bool {
	return errors.Is(err, ErrBadImage) || errors.Is(err, ErrSize) || errors.Is(err, ErrDigest) || errors.Is(err, errNotThere)
}
