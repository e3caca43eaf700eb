// Package download moves one blob from one of several URLs to a file: ranged, resumable, verified.
package download

import "errors"

// The kinds of failure; anything else is a failed transfer.
var (
	ErrSize    = errors.New("wrong size")
	ErrDigest  = errors.New("wrong digest")
	ErrTooSlow = errors.New("too slow")
	ErrNoSpace = errors.New("no space left")
)
