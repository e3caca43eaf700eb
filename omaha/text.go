package omaha

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nebraska/omahaclient/internal/secrets"
)

// foreign is printable for what a server wrote, without what was secret in the request. That goes first, while it is whole; and again
// when white space is collapsed, which may spell it.
func foreign(hide *secrets.Set, s string, limit int) string {
	if len(s) > sampleSize {
		s = hide.HideCut(s[:sampleSize])
	} else {
		s = hide.Hide(s)
	}
	return printable(hide.Hide(printable(s, math.MaxInt)), limit)
}

// printable returns at most limit bytes of foreign text on one line, for messages: white space collapsed, what is
// not printable replaced.
func printable(s string, limit int) string {
	var b strings.Builder
	space := false
	for _, r := range s {
		if unicode.IsSpace(r) {
			space = b.Len() > 0
			continue
		}
		if !unicode.IsPrint(r) {
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r)+1 > limit {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// plainError shows text for err, and unwraps to it.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }
