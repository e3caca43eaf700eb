package download

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// The kinds of failure; anything else is a failed transfer.
var (
	ErrSize    = errors.New("wrong size")
	ErrDigest  = errors.New("wrong digest")
	ErrTooSlow = errors.New("too slow")
	ErrNoSpace = errors.New("no space left on the disk")
	ErrBusy    = errors.New("another fetch is at work on it")
	ErrBadURL  = errors.New("unusable address")
	ErrMissing = errors.New("not there") // the mirror says so: 4xx, but not 408 or 429
)

// Final marks an error of a Client's transport, of Authorize or of Challenge: there is no use in asking that mirror again.
func Final(err error) error { return &failure{class: final, err: err} }

// Error says why each mirror failed. errors.Is finds what any of them failed with.
type Error struct{ Mirrors []MirrorError }

// MirrorError is what became of one mirror.
type MirrorError struct {
	URL   string // without credentials and query
	Tries int    // requests made; 0 where the URL itself is unusable
	Err   error  // of the last try; joined with the mismatch, where there was one before
}

func (e *Error) Error() string {
	const most = 5
	var b strings.Builder
	b.WriteString("no mirror delivered it: ")
	for i, m := range e.Mirrors {
		switch {
		case i == most:
			fmt.Fprintf(&b, "; and %d more", len(e.Mirrors)-most)
			return b.String()
		case i > 0:
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (%d tries): %v", m.URL, m.Tries, m.Err)
	}
	return b.String()
}

func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Mirrors))
	for i, m := range e.Mirrors {
		errs[i] = m.Err
	}
	return errs
}

// class says what a failure means for the mirror that it happened at.
type class int

const (
	transient   class = iota // counts; the same mirror goes on
	unreachable              // counts; the others first
	busy                     // counts; not before the time that it asked for, the others first
	mismatch                 // wrong size or hash: the others at once
	final                    // no use asking this mirror again
	fatal                    // no mirror can help: our disk, or the context
)

// failure is an error with its class; an error without one is transient.
type failure struct {
	class   class
	err     error
	after   time.Duration // busy: how long it wants to be left alone
	discard bool          // mismatch: the partial file is spoilt
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func local(err error) error           { return &failure{class: fatal, err: err} }
func finalf(f string, a ...any) error { return &failure{class: final, err: fmt.Errorf(f, a...)} }

func classOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{err: err}
}

// redact is a URL as it may be shown: no credentials, no query, not endless.
func redact(u *url.URL) string {
	s := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return s
}
