package omahaclient

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/trust"
)

// maxPlaces bounds where a signed statement is looked for: a server can name any number of mirrors.
const maxPlaces = 16

// signed finds the signed documents that travel with an offer: in a package's metadata, as extra files, beside the payloads, and as
// an image's referrers. What is not there is passed over.
func (c *Client) signed(list []fetcher.Source) func(context.Context) iter.Seq2[trust.Signed, error] {
	return func(ctx context.Context) iter.Seq2[trust.Signed, error] {
		return func(yield func(trust.Signed, error) bool) {
			if inMetadata(list, yield) && c.inFiles(ctx, places(list), yield) {
				c.inReferrers(ctx, list, yield)
			}
		}
	}
}

// inMetadata yields what packages' metadata hold. As the two after it, it reports whether more is wanted.
func inMetadata(list []fetcher.Source, yield func(trust.Signed, error) bool) bool {
	for _, src := range list {
		if s, ok := trust.ParseMetadata(src.Metadata); ok {
			s.Where = fmt.Sprintf("metadata of %q", src.Name)
			if !yield(s, nil) {
				return false
			}
		}
	}
	return true
}

// inFiles yields what is at the places.
func (c *Client) inFiles(ctx context.Context, at []place, yield func(trust.Signed, error) bool) bool {
	for _, p := range at {
		s, err := c.read(ctx, p)
		if errors.Is(err, fetcher.ErrMissing) {
			continue
		}
		if !yield(s, err) || ctx.Err() != nil {
			return false
		}
	}
	return true
}

// place is where a document and its signatures may be.
type place struct{ document, signatures string }

// places returns the addresses of documents that are files: extra files first, then those beside the payloads.
func places(list []fetcher.Source) []place {
	files := make(map[string]fetcher.Source, len(list))
	for _, src := range list {
		files[src.Name] = src
	}
	var extra, besides []place
	for _, src := range list {
		name, isStatement := strings.CutSuffix(src.Name, trust.ReleaseSuffix)
		switch {
		case isStatement:
			signatures := files[name+trust.ReleaseSignatureSuffix].URLs
			for i := range min(len(src.URLs), len(signatures)) {
				extra = append(extra, place{src.URLs[i], signatures[i]})
			}
		case !strings.HasSuffix(src.Name, trust.ReleaseSignatureSuffix) && !mediaTypeIs(src, typeImage):
			besides = append(besides, placesBeside(src)...)
		}
	}
	all := slices.Concat(extra, besides)
	return all[:min(len(all), maxPlaces)]
}

// placesBeside returns where documents about a payload may lie: beside it, on each of its mirrors.
func placesBeside(src fetcher.Source) (at []place) {
	for _, raw := range src.URLs {
		u, err := url.Parse(raw)
		if err == nil && u.Path != "" && !strings.HasSuffix(u.Path, "/") {
			at = append(at, place{beside(*u, trust.ReleaseSuffix), beside(*u, trust.ReleaseSignatureSuffix)})
		}
	}
	return at
}

// beside is the address whose path ends in the suffix; the query stays.
func beside(u url.URL, suffix string) string {
	escaped := u.EscapedPath() + suffix
	u.Path += suffix
	u.RawPath = escaped
	return u.String()
}

// read fetches a document and its signatures.
func (c *Client) read(ctx context.Context, at place) (trust.Signed, error) {
	s := trust.Signed{Where: shownAddress(at.document)}
	h := c.documents()
	var err error
	if s.Document, err = h.Document(ctx, at.document, trust.MaxDocument); err != nil {
		return s, err
	}
	s.Signatures, err = h.Document(ctx, at.signatures, trust.MaxDocument)
	if errors.Is(err, fetcher.ErrMissing) { // the verifier says best what is wrong with that
		err = nil
	}
	return s, err
}

// reader is a fetcher of plain files that can read small ones as it fetches payloads; one that embeds fetcher.HTTP is.
type reader interface {
	Document(ctx context.Context, url string, limit int64) ([]byte, error)
}

// documents reads what lies where payloads do.
func (c *Client) documents() reader {
	if r, ok := c.cfg.fetchers[typeBinary].(reader); ok {
		return r
	}
	return fetcher.HTTP{Logger: c.cfg.logger}
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

// inReferrers yields the statements that refer to images.
func (c *Client) inReferrers(ctx context.Context, list []fetcher.Source, yield func(trust.Signed, error) bool) bool {
	f, ok := c.cfg.fetchers[typeImage].(attacher)
	for _, src := range list {
		if !ok || !mediaTypeIs(src, typeImage) {
			continue
		}
		found, err := f.Attached(ctx, src, trust.ArtifactType, trust.MaxDocument)
		if err != nil && !yield(trust.Signed{Where: fmt.Sprintf("a referrer of %q", src.Name)}, err) {
			return false
		}
		for _, at := range found {
			if s := attached(at); len(s.Document) > 0 && !yield(s, nil) {
				return false
			}
		}
	}
	return true
}

func attached(at fetcher.Attachment) trust.Signed {
	s := trust.Signed{Where: at.Where}
	for _, layer := range at.Layers {
		switch layer.MediaType {
		case trust.MediaTypeRelease:
			s.Document = layer.Data
		case trust.MediaTypeSignature:
			s.Signatures = layer.Data
		}
	}
	return s
}
