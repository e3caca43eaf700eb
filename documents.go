package omahaclient

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/trust"
)

// maxPlaces bounds where a signed statement is looked for: a server can name any number of mirrors.
const maxPlaces = 16

// signed finds the signed documents that travel with an offer: in a package's metadata, as extra files, beside the payloads, and as
// an image's referrers. What is not there is passed over.
func (c *Client) signed(dir string, list []fetcher.Source) func(context.Context) iter.Seq2[trust.Signed, error] {
	return func(ctx context.Context) iter.Seq2[trust.Signed, error] {
		return func(yield func(trust.Signed, error) bool) {
			for _, src := range list {
				if s, ok := trust.ParseMetadata(src.Metadata); ok {
					s.Where = fmt.Sprintf("metadata of %q", src.Name)
					if !yield(s, nil) {
						return
					}
				}
			}
			tries := 0
			for at := range places(list) {
				if tries++; tries > maxPlaces {
					break
				}
				s, err := c.read(ctx, dir, at)
				if errors.Is(err, fetcher.ErrMissing) {
					continue
				}
				if !yield(s, err) || ctx.Err() != nil {
					return
				}
			}
			for _, src := range list {
				if mediaTypeIs(src, typeImage) && !c.attached(ctx, src, yield) {
					return
				}
			}
		}
	}
}

// place is where a document and its signatures may be.
type place struct{ document, signatures string }

// places yields the addresses of documents that are files: extra files first, then those beside the payloads.
func places(list []fetcher.Source) iter.Seq[place] {
	return func(yield func(place) bool) {
		for _, doc := range list {
			for _, sig := range list {
				if strings.HasSuffix(doc.Name, trust.ReleaseSuffix) && sig.Name == strings.TrimSuffix(doc.Name, trust.ReleaseSuffix)+trust.ReleaseSignatureSuffix {
					for i := range min(len(doc.URLs), len(sig.URLs)) {
						if !yield(place{doc.URLs[i], sig.URLs[i]}) {
							return
						}
					}
				}
			}
		}
		for _, src := range list {
			if mediaTypeIs(src, typeImage) || strings.HasSuffix(src.Name, trust.ReleaseSuffix) || strings.HasSuffix(src.Name, trust.ReleaseSignatureSuffix) {
				continue
			}
			for _, raw := range src.URLs {
				u, err := url.Parse(raw)
				if err != nil || u.Path == "" || strings.HasSuffix(u.Path, "/") {
					continue
				}
				if !yield(place{beside(*u, trust.ReleaseSuffix), beside(*u, trust.ReleaseSignatureSuffix)}) {
					return
				}
			}
		}
	}
}

// beside is the address whose path ends in the suffix; the query stays.
func beside(u url.URL, suffix string) string {
	escaped := u.EscapedPath() + suffix
	u.Path += suffix
	u.RawPath = escaped
	return u.String()
}

// read fetches a document and its signatures.
func (c *Client) read(ctx context.Context, dir string, at place) (trust.Signed, error) {
	s := trust.Signed{Where: shownAddress(at.document)}
	h := c.documents()
	var err error
	if s.Document, err = h.Document(ctx, dir, at.document, trust.MaxDocument); err != nil {
		return s, err
	}
	s.Signatures, err = h.Document(ctx, dir, at.signatures, trust.MaxDocument)
	if errors.Is(err, fetcher.ErrMissing) { // the verifier says best what is wrong with that
		err = nil
	}
	return s, err
}

// documents is the fetcher of plain files: documents lie where payloads do.
func (c *Client) documents() fetcher.HTTP {
	switch h := c.cfg.fetchers[typeBinary].(type) {
	case fetcher.HTTP:
		return h
	case *fetcher.HTTP:
		return *h
	default:
		return fetcher.HTTP{Logger: c.cfg.logger}
	}
}

// shownAddress is an address without what may be secret in it.
func shownAddress(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "an address that cannot be parsed"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// attacher is a fetcher of images that can look for what refers to one.
type attacher interface {
	Attached(ctx context.Context, src fetcher.Source, artifactType string, limit int64) ([]fetcher.Attachment, error)
}

// attached yields the statements that refer to an image. It reports whether more is wanted.
func (c *Client) attached(ctx context.Context, src fetcher.Source, yield func(trust.Signed, error) bool) bool {
	f, ok := c.cfg.fetchers[typeImage].(attacher)
	if !ok {
		return true
	}
	where := fmt.Sprintf("a referrer of %q", src.Name)
	found, err := f.Attached(ctx, src, trust.ArtifactType, trust.MaxDocument)
	if err != nil {
		return yield(trust.Signed{Where: where}, err)
	}
	for _, at := range found {
		s := trust.Signed{Where: where + " (" + at.Digest + ")"}
		for _, layer := range at.Layers {
			switch layer.MediaType {
			case trust.MediaTypeRelease:
				s.Document = layer.Data
			case trust.MediaTypeSignature:
				s.Signatures = layer.Data
			}
		}
		if len(s.Document) > 0 && !yield(s, nil) {
			return false
		}
	}
	return true
}
