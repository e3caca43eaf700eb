package omaha

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrMissingApp: the answer does not speak of an app that was asked for. Nebraska's answer ends at the first
	// app or channel that it does not know, so ask for the missing apps again, one by one.
	ErrMissingApp = errors.New("missing in the server's answer")
	// ErrEmptyResponse: the answer is empty, or nothing but an XML declaration, as Nebraska answers a request
	// that it cannot read.
	ErrEmptyResponse = errors.New("empty answer")
	// ErrNotOmaha: the answer is something else, such as a web page.
	ErrNotOmaha = errors.New("no Omaha answer")
	// ErrTooLarge: the answer exceeds 1 MiB, or is built to exhaust its reader.
	ErrTooLarge = errors.New("answer too large")
)

// AnswerError says why a whole request failed: no connection, an HTTP status, or an answer that is not Omaha.
type AnswerError struct {
	Endpoint    string        // scheme, host and path, never a query, user, password or secret suffix
	StatusCode  int           // HTTP; 0 if no answer came
	ContentType string        // of the answer
	Body        string        // the first bytes of the answer, made printable
	Code        ExitCode      // what to report
	RetryAfter  time.Duration // how long the server asks to wait before the next check; 0 if it does not
	Err         error         // the cause; wraps ErrEmptyResponse, ErrNotOmaha, ErrTooLarge, ErrUnsigned or a network error where it is one

	advice string // what to do, "" if there is nothing to say
}

// Error says what came and what to do.
func (e *AnswerError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "omaha request to %s: ", e.Endpoint)
	if e.StatusCode != 0 {
		fmt.Fprintf(&b, "HTTP %d: ", e.StatusCode)
	}
	fmt.Fprint(&b, e.Err)
	if e.StatusCode != 0 && (e.ContentType != "" || e.Body != "") {
		fmt.Fprintf(&b, " (content type %q, begins %q)", e.ContentType, e.Body)
	}
	if e.advice != "" {
		b.WriteString("; " + e.advice)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *AnswerError) Unwrap() error { return e.Err }

// Final tells that trying again soon cannot help, before something is changed here or on the server: after a
// status but 408, 429, 500, 502, 503 and 504, a web page, an empty answer, an untrusted certificate. An answer without valid proof,
// whatever its status, is never final for a client that wants one: anybody underway may have sent it.
func (e *AnswerError) Final() bool {
	if errors.Is(e.Err, ErrUnsigned) {
		return false
	}
	if e.StatusCode != 0 && !isSuccess(e.StatusCode) {
		return !isPassing(e.StatusCode)
	}
	return isFinal(e.Err)
}

// InvalidError says that an app's update was offered, but cannot be used. Report it with [ExitResponseInvalid].
type InvalidError struct {
	AppID  string
	Reason string // plain words
}

// Error names the app and the reason.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("app %q: unusable offer: %s", e.AppID, e.Reason)
}

// CodeOf returns the code to report for an error of this package: an [AnswerError]'s own, 34 for an
// [InvalidError], a missing app or an answer without proof, 2 for a [StatusError], 1 for any other error and 0 for nil.
// An error with a method ExitCode() int anywhere in its chain is taken at its word.
func CodeOf(err error) ExitCode {
	var own interface{ ExitCode() int }
	var answer *AnswerError
	var invalid *InvalidError
	var status *StatusError
	switch {
	case err == nil:
		return ExitSuccess
	case errors.As(err, &own):
		return ExitCode(own.ExitCode())
	case errors.As(err, &answer):
		return answer.Code
	case errors.As(err, &invalid), errors.Is(err, ErrMissingApp), errors.Is(err, ErrTooLarge), errors.Is(err, ErrUnsigned):
		return ExitResponseInvalid
	case errors.As(err, &status):
		return ExitOmahaRequest
	case errors.Is(err, ErrEmptyResponse):
		return ExitEmptyResponse
	case errors.Is(err, ErrNotOmaha):
		return ExitResponseXML
	default:
		return ExitError
	}
}
