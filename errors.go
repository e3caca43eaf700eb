package omahaclient

import (
	"errors"
	"fmt"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/trust"
)

var (
	// ErrInvalidOption is wrapped by every mistake that New finds in its arguments.
	ErrInvalidOption = errors.New("invalid option")
	// ErrUnknownApp is returned for an app id that no WithApp named.
	ErrUnknownApp = errors.New("unknown app")
	// ErrSettled is returned by every verdict on an offer but the first.
	ErrSettled = errors.New("offer is already settled")
	// ErrUnbound is returned by the verdicts of an UpdateOffer that came from no Client.
	ErrUnbound = errors.New("offer comes from no client")
	// ErrClosed is returned after Client.Close, and is the cause that ends a stream by it.
	ErrClosed = errors.New("client is closed")
	// ErrOutboxFull is wrapped by SendEvent when as many events of the app as the state directory takes wait for the server.
	ErrOutboxFull = errors.New("outbox is full")
	// ErrStateLocked is wrapped by New when another process, or another Client, uses the state directory.
	ErrStateLocked = state.ErrLocked
	// ErrRestartRequired given to Ack means: installed, takes effect at the next start. It is the same as Installed.
	ErrRestartRequired = errors.New("restart required")
)

// Error tells what failed, for which app, and the code that is reported to the server. Status, Err and the methods of
// Client return it; errors.As and errors.Is look through it.
type Error struct {
	Op    string // "check", "fetch", "verify", "apply", "report"
	AppID string
	Code  omaha.ExitCode // update_engine's numbers, see package omaha
	Err   error
}

// Error says what failed, for which app, and why.
func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.AppID, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns Code, so that an Error given back to Ack is reported with it.
func (e *Error) ExitCode() int { return int(e.Code) }

// WithCode gives err the code that Ack reports: offer.Ack(omahaclient.WithCode(err, 5)). Any error with a method
// ExitCode() int is reported with what that returns, if it is above 0; every other one with 1. WithCode(nil, …) is nil.
func WithCode(err error, code omaha.ExitCode) error {
	if err == nil {
		return nil
	}
	return &codedError{err, code}
}

type codedError struct {
	error
	code omaha.ExitCode
}

func (e *codedError) Unwrap() error { return e.error }
func (e *codedError) ExitCode() int { return int(e.code) }

// codeOf returns the code to report for what a program gave to Ack.
func codeOf(err error) omaha.ExitCode {
	var own interface{ ExitCode() int }
	if errors.As(err, &own) && own.ExitCode() > 0 {
		return omaha.ExitCode(own.ExitCode())
	}
	return omaha.ExitError
}

// fetchError classifies what ended a fetch: whose fault it is decides the code and whether the release backs off.
func fetchError(appID string, err error) (e *Error, release bool) {
	if errors.As(err, new(*undecidedError)) {
		return &Error{Op: "verify", AppID: appID, Code: omaha.ExitTransfer, Err: err}, false
	}
	for _, class := range fetchClasses() {
		if errors.Is(err, class.is) {
			return &Error{Op: class.op, AppID: appID, Code: class.code, Err: err}, true
		}
	}
	var own interface{ ExitCode() int }
	if errors.As(err, &own) && own.ExitCode() > 0 {
		return &Error{Op: "fetch", AppID: appID, Code: omaha.ExitCode(own.ExitCode()), Err: err}, true
	}
	return &Error{Op: "fetch", AppID: appID, Code: omaha.ExitTransfer, Err: err}, false
}

type fetchClass struct {
	is   error
	op   string
	code omaha.ExitCode
}

// fetchClasses lists the failures that are the release's own; everything else is a transfer that may go better.
func fetchClasses() []fetchClass {
	return []fetchClass{
		{trust.ErrUntrusted, "verify", omaha.ExitPublicKey},
		{fetcher.ErrUnsigned, "verify", omaha.ExitPublicKey},
		{fetcher.ErrDigest, "verify", omaha.ExitHash},
		{fetcher.ErrSize, "verify", omaha.ExitSize},
		{fetcher.ErrUnsupportedType, "fetch", omaha.ExitUnsupportedType},
		{fetcher.ErrBadURL, "fetch", omaha.ExitResponseInvalid},
		{fetcher.ErrNoHash, "verify", omaha.ExitVerification},
		{fetcher.ErrBadReference, "fetch", omaha.ExitResponseInvalid},
		{fetcher.ErrBadImage, "verify", omaha.ExitVerification},
		{errBadPayload, "fetch", omaha.ExitResponseInvalid},
	}
}

// errBadPayload marks an announced payload that nothing can be fetched by.
var errBadPayload = errors.New("unusable payload")

// closedOr turns the journal's word for a closed Client into ours.
func closedOr(err error) error {
	if errors.Is(err, state.ErrClosed) {
		return ErrClosed
	}
	return err
}
