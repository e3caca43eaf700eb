package omaha

import (
	"slices"
	"strings"
)

const (
	maxMirrors   = 32      // of a package; further ones are left out
	maxURL       = 8 << 10 // bytes; a longer one is left out
	maxURLsTotal = 8 << 20 // bytes of all joined URLs of an answer: codebases times packages
)

// joinURLs returns the mirrors of a package: each codebase joined with the package's name. A name that is a URL
// itself stands alone.
func joinURLs(codebases []string, name string) []string {
	name = strings.TrimSpace(name)
	if isAbsolute(name) {
		codebases, name = []string{name}, ""
	}
	var urls []string
	for _, codebase := range codebases {
		u := joinURL(strings.TrimSpace(codebase), name)
		if u == "" || len(u) > maxURL || slices.Contains(urls, u) {
			continue
		}
		if urls = append(urls, u); len(urls) == maxMirrors {
			break
		}
	}
	return urls
}

// joinURL joins as servers mean it: they concatenate, and some leave out the slash. With a query in the codebase
// the name belongs to the query. A codebase without a scheme is an image reference, and stays as it is.
func joinURL(codebase, name string) string {
	if codebase == "" {
		return ""
	}
	u := codebase
	if isAbsolute(codebase) {
		u = escapeURL(codebase)
	}
	if name == "" {
		return u
	}
	if !strings.ContainsRune(u, '?') && !strings.HasSuffix(u, "/") && !strings.HasPrefix(name, "/") {
		u += "/"
	}
	return u + strings.ReplaceAll(escapeURL(name), "#", "%23")
}

// isAbsolute tells that s starts with a scheme and "://" (RFC 3986, section 3.1).
func isAbsolute(s string) bool {
	scheme, _, found := strings.Cut(s, "://")
	if !found || scheme == "" {
		return false
	}
	for i := range len(scheme) {
		c := scheme[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(scheme[i]))) {
			return false
		}
	}
	return true
}

// escapeURL percent-encodes what must not stand in a URL anywhere (RFC 3986, section 2), and a % that encodes
// nothing. All else stays as the server wrote it, escapes included.
func escapeURL(s string) string {
	const digits = "0123456789ABCDEF"
	clean := func(i int) bool {
		switch c := s[i]; {
		case c == '%':
			return i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2])
		default:
			return c > ' ' && c < 0x7f && !strings.ContainsRune("\"<>\\^`{|}", rune(c))
		}
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; clean(i) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}
