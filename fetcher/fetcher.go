// Package fetcher fetches what an update server announced and verifies it.
//
// A [Fetcher] knows one media type. [HTTP] takes plain files ("binary"): ranged, resumable and verified downloads from
// several mirrors. [OCI] takes container images ("application/vnd.oci.image"), blob by blob in the same way. [Registry] picks
// the Fetcher by the media type of a [Source].
//
// Nothing is returned that was not verified, nothing is written outside of the folders that a [Job] names, and no credential
// reaches a host that it was not meant for.
package fetcher

import (
	"context"
	"errors"

	"github.com/nebraska/omahaclient/internal/download"
)

// Source is one payload as a server announced it.
type Source struct {
	Name      string   // a label, never a path
	MediaType string   // "binary", "application/vnd.oci.image", …
	URLs      []string // mirrors, best first
	Size      int64    // bytes; 0: unknown
	SHA1      []byte   // 20 bytes or nil; one that cannot be decoded counts as absent
	SHA256    []byte   // 32 bytes or nil
	Metadata  []byte   // the package's metadata, verbatim
}

// Job is one fetch. Jobs with the same Dir must not run at the same time.
type Job struct {
	Source   Source
	Dir      string                  // this payload's own; survives restarts, so that a fetch can resume; made (0700) where missing
	Shared   string                  // this media type's, across releases and apps (image blobs); unused by HTTP
	Progress func(done, total int64) // bytes present so far; total 0 while unknown; never nil
}

// Payload is a fetched and verified payload.
type Payload struct {
	Name      string // Source.Name, verbatim
	MediaType string // Source.MediaType, verbatim
	Path      string // a file (mode 0600; its base name is Name where that is a plain file name); for an image the OCI layout directory
	Size      int64  // bytes
	Digest    string // "sha256:…" of the file; for an image the digest of its manifest for this platform
	Reference string // for an image: registry/repository@digest, the digest that was pinned (index or manifest)
}

// Fetcher fetches the payloads of one media type. Fetch returns only what it verified. It is called from several goroutines at
// the same time, for different jobs; it stops soon after ctx is done, with an error that wraps ctx's.
//
// Errors wrap [ErrSize], [ErrDigest], [ErrTooSlow], [ErrNoHash], [ErrNoSpace], [ErrUnsupportedType], [ErrBadURL],
// [ErrBadReference] or [ErrBadImage]; any other error counts as a failed transfer. Where several mirrors failed in different ways an error can wrap
// several of them.
//
// A Fetcher that keeps in Job.Shared what several payloads need can have a method Collect(ctx context.Context, shared string) error:
// the Client of package omahaclient calls it when it has removed some Job.Dir, and keeps each app's newest finished payload for the
// next one to build on. See [OCI.Collect].
type Fetcher interface {
	Fetch(ctx context.Context, job Job) (Payload, error)
}

// The kinds of failure, for [errors.Is].
var (
	// ErrUnsupportedType: no Fetcher is registered for the source's media type.
	ErrUnsupportedType = errors.New("unsupported payload type")
	// ErrBadURL: the server announced no http or https address that a payload could be asked for at.
	ErrBadURL = download.ErrBadURL
	// ErrNoHash: the server announced no usable hash, and HTTP.AllowUnverified is not set.
	ErrNoHash = errors.New("no usable hash")
	// ErrSize: what a mirror has is not of the announced size, or larger than allowed.
	ErrSize = download.ErrSize
	// ErrDigest: what a mirror has does not match the announced hash.
	ErrDigest = download.ErrDigest
	// ErrTooSlow: a mirror sent nothing for too long, or less than the floor rate.
	ErrTooSlow = download.ErrTooSlow
	// ErrNoSpace: the disk has no room for the payload. What was fetched so far is kept.
	ErrNoSpace = download.ErrNoSpace
)
