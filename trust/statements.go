package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"aead.dev/minisign"
)

// Statements verifies releases by signed statements, and their heads by a signed index. It remembers what it saw in each claim's Dir. It
// is safe for concurrent use, also for one Dir; two programs, or two Statements, must not share one.
type Statements struct {
	pinned  []minisign.PublicKey
	minimum uint64
	log     *slog.Logger
	mu      sync.Mutex // guards the memories in the claims' Dirs: each is read, changed and written by one call at a time
}

// StatementOption changes what NewStatements returns.
type StatementOption func(*Statements)

// WithMinimumSequence refuses statements of a lower sequence, also where what was seen before is lost: a build knows its own
// release's. From 0 to MaxSequence; default 0, which refuses none.
func WithMinimumSequence(n uint64) StatementOption { return func(s *Statements) { s.minimum = n } }

// WithLogger tells of keys that were changed, or listed and passed over, and of a memory that was damaged. By default, and with nil, nothing is told.
func WithLogger(log *slog.Logger) StatementOption { return func(s *Statements) { s.log = log } }

// NewStatements trusts the publisher's keys: minisign public keys, each as its line of base64, which begins with RW, or as the
// whole .pub file. A statement needs the signature of one of them. An error says which key is wrong, and why.
func NewStatements(keys []string, opts ...StatementOption) (*Statements, error) {
	pinned, err := parseKeys(keys)
	if err != nil {
		return nil, fmt.Errorf("trusted keys: %w", err)
	}
	s := &Statements{pinned: pinned}
	for _, opt := range opts {
		opt(s)
	}
	if s.minimum > MaxSequence {
		return nil, fmt.Errorf("minimum sequence: %d is above 2^53-1, the highest of all", s.minimum)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// maxDocuments is how many documents are looked at for one claim: a hostile server may list any number.
const maxDocuments = 64

// Verify implements Verifier: it looks for a statement that one of the trusted keys signed, and that speaks of this very claim.
//
// The statement that was verified last comes first, so that a release that is offered again needs no network; then what claim.Signed
// yields, until one holds. What was verified is on disk when Verify returns: from then on no lower sequence is taken, as long as one of the keys
// that signed it is trusted.
//
// Of several errors the one is returned that came nearest to trust: one of a signed statement (ErrMalformed, ErrMismatch, ErrRollback,
// ErrExpired) before all. Where there is no such one, and a place could not be looked at, the error wraps that place's and not
// ErrUntrusted: whoever blocks a place delays an update, and no more. Else it is ErrSignature or ErrMalformed for what nobody trusted signed, or
// ErrNoStatement.
func (s *Statements) Verify(ctx context.Context, claim Claim) (Release, error) {
	release, err := s.search(ctx, claim)
	if err != nil {
		return Release{}, fmt.Errorf("verify version %q of app %s: %w", claim.Version, claim.AppID, err)
	}
	return release, nil
}

func (s *Statements) search(ctx context.Context, claim Claim) (Release, error) {
	var best finding
	kept, err := s.kept(claim)
	if err != nil {
		return Release{}, err
	}
	if kept.Document != nil {
		release, f := s.statement(claim, kept)
		if f.err == nil || !errors.Is(f.err, ErrUntrusted) {
			return release, f.err
		}
		best = finding{progress: isNothing, err: f.err} // said only where nothing else is found
	}
	var unreachable error
	seen := 0
	for signed, err := range claim.Signed(ctx) {
		if err != nil && !errors.Is(err, ErrUntrusted) {
			unreachable = err
			continue
		}
		release, f := Release{}, finding{err: err, progress: isUnsigned}
		if err == nil {
			release, f = s.statement(claim, signed)
		}
		if f.err == nil || !errors.Is(f.err, ErrUntrusted) {
			return release, f.err
		}
		if best.err == nil || f.progress > best.progress {
			best = f
		}
		if seen++; seen == maxDocuments {
			break
		}
	}
	return Release{}, s.worst(ctx, best, unreachable)
}

// worst is the error of a search that found nothing to trust.
func (*Statements) worst(ctx context.Context, best finding, unreachable error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case best.progress > isUnsigned:
		return best.err
	case unreachable != nil:
		return fmt.Errorf("look for a signed statement: %w", unreachable)
	case best.err != nil:
		return best.err
	default:
		return fmt.Errorf("%w: publish one beside it", ErrNoStatement)
	}
}
