package omaha

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

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

// secrets are strings that must not show in any message: a query, a password, what Authorize set.
type secrets []string

// minSecret keeps a secret such as "1" from blotting out a message. Shorter ones are no secrets.
const minSecret = 4

func (s *secrets) add(values ...string) {
	for _, v := range values {
		if len(v) >= minSecret {
			*s = append(*s, v)
		}
	}
}

// addHeader adds a header's values, and the credentials in "Bearer …" alone.
func (s *secrets) addHeader(values []string) {
	for _, v := range values {
		_, credentials, _ := strings.Cut(v, " ")
		s.add(v, credentials)
	}
}

func (s secrets) hide(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "…")
	}
	return text
}

// urlParts finds in foreign error messages what may hold credentials in a URL: user and password, and the query.
var urlParts = regexp.MustCompile(`(://)[^/@\s"']*@|\?[^\s"']*`)

func hideURLParts(text string) string { return urlParts.ReplaceAllString(text, "$1…") }

// plainError shows text for err, and unwraps to it.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }
