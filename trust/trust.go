// Package trust decides what may be installed: what an app's publisher signed, and nothing else, whatever an update server, a
// mirror or the network says.
//
// A [Verifier] is asked about each offer before anything of it is fetched. The one that omahaclient.WithTrustedKeys makes is
// [Statements]: small JSON documents, signed with minisign, that bind an app, its channels, an architecture, a version and every
// payload's SHA-256 together, with a sequence that only rises. docs/trust.md in the repository has the format in full. Other schemes fit the same
// interface: package trust/tuf has The Update Framework.
package trust

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Claim is what an update server offers, before anybody believes it.
type Claim struct {
	AppID   string
	Channel string // that the app follows; "" where it follows none
	Arch    string // GOARCH's name of this machine's architecture: amd64, arm64, …
	Version string // offered

	// Payloads are the offered ones, in the manifest's order.
	Payloads []Payload

	// Signed yields the signed documents that travel with the release, best first. It fetches each when it is asked for
	// it; an error says why one place could not be looked at, and does not end the sequence. A place that has none yields nothing. Never nil.
	Signed func(ctx context.Context) iter.Seq2[Signed, error]

	Now time.Time // the machine's clock, but never earlier than the program's build
	Dir string    // the verifier's own folder for this app, durable and private (0700); made where missing
}

// Payload is a file or an image.
type Payload struct {
	Name   string // a label, never a path; for an image whatever the server calls it
	Image  bool   // a container image: it has a digest of its manifest or index, and no size
	Size   int64  // bytes; 0: not said
	Digest string // "sha256:" and 64 lower-case hexadecimal digits; "": not said
}

// Signed is a document with its signatures.
type Signed struct {
	Where      string // where it was found, for messages and logs: without credentials
	Document   []byte // at most MaxDocument bytes
	Signatures []byte // one or more minisign signatures, one after the other; at most MaxDocument bytes
}

// MaxDocument is the size of the largest document, or file of signatures, that is looked at: 64 KiB.
const MaxDocument = 64 << 10

// Release is what a publisher vouches for.
type Release struct {
	Version  string
	Sequence uint64 // rises with each release of an (app, channel, architecture); 0: the scheme has none
	Issued   time.Time
	Expires  time.Time
	Where    string // where the proof was found

	// Payloads has one for each of the claim's, in its order, with the publisher's size and digest. An empty Digest means that
	// nobody vouches for that payload: it must not be fetched.
	Payloads []Payload
}

// Verifier decides whether a claim is the publisher's. It is called from several goroutines at the same time, for different
// apps; never twice at once with the same Dir.
//
// An error that wraps [ErrUntrusted] is final: the offer is refused, and the server told so (code 18). Any other error says that it could not
// be found out (a host that does not answer): it is tried again later.
type Verifier interface {
	Verify(ctx context.Context, claim Claim) (Release, error)
}

// ErrUntrusted is wrapped by every refusal; the others say why, and wrap it too.
var (
	ErrUntrusted   = errors.New("not trusted")
	ErrNoStatement = refusal("no signed statement travels with the release")
	ErrSignature   = refusal("no trusted key signed it")
	ErrExpired     = refusal("it has expired")
	ErrRollback    = refusal("it is older than what was released before")
	ErrMismatch    = refusal("it speaks of something else")
	ErrMalformed   = refusal("it is malformed")
)

type refused struct{ why string }

func refusal(why string) error          { return &refused{why} }
func (e *refused) Error() string        { return ErrUntrusted.Error() + ": " + e.why }
func (e *refused) Is(target error) bool { return target == ErrUntrusted }
