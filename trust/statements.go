package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"aead.dev/minisign"
)

// Statements verifies releases by signed statements, and heads by a signed index. It remembers what it saw in each claim's Dir. It
// is safe for concurrent use, also for one Dir; two programs, or two Statements, must not share one.
type Statements struct {
	pinned  []minisign.PublicKey
	minimum uint64
	log     *slog.Logger
	mu      sync.Mutex // what is in the Dirs, from reading it to writing it again
}

// StatementOption changes what NewStatements returns.
type StatementOption func(*Statements)

// WithMinimumSequence refuses statements of a lower sequence, also when what was seen before is lost. A build knows its own release's; zero, the default, refuses none.
func WithMinimumSequence(n uint64) StatementOption { return func(s *Statements) { s.minimum = n } }

// WithLogger tells of changed keys and of a damaged memory. By default nothing is told.
func WithLogger(log *slog.Logger) StatementOption { return func(s *Statements) { s.log = log } }

// NewStatements trusts the publisher's keys: minisign public keys, each as its line of base64, which begins with RW, or as the
// whole .pub file. A statement needs the signature of one of them. An error says which key is wrong, and why.
func NewStatements(keys []string, opts ...StatementOption) (*Statements, error) {
	pinned, err := parseKeys(keys)
	if err != nil {
		return nil, fmt.Errorf("trusted keys: %w", err)
	}
	s := &Statements{pinned: pinned, log: slog.New(slog.DiscardHandler)}
	for _, opt := range opts {
		opt(s)
	}
	if s.minimum > MaxSequence {
		return nil, fmt.Errorf("minimum sequence %d is above 2^53-1, the highest of all", s.minimum)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// Verify is Verifier's.
func (s *Statements) Verify(ctx context.Context, claim Claim) (Release, error) {
	return Release{}, errors.New("not yet")
}

// Index verifies a release index.
func (s *Statements) Index(claim Claim, signed Signed) (Head, error) {
	return Head{}, errors.New("not yet")
}
