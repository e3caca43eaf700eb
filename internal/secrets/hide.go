package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Hide returns text with an ellipsis for each secret, and each piece of one. None is in what it returns.
func (s *Set) Hide(text string) string { return s.hide(text, false) }

// HideCut is Hide for a text that was cut off: what may be the beginning of a secret at its end goes, too.
func (s *Set) HideCut(text string) string { return s.hide(text, true) }

func (s *Set) hide(text string, cut bool) string {
	s.learn()
	for {
		covered := s.find(text)
		if cut {
			covered.add(len(text)-s.beginning(lower(text)), len(text))
			cut = false
		}
		if len(covered) == 0 {
			return text
		}
		text = covered.replaceIn(text) // which may spell a secret, together with what stands beside: so look again
	}
}

// learn finds out how the secrets that were added since the last call may be written.
func (s *Set) learn() {
	if s.pieces == nil {
		s.pieces = map[string]struct{}{}
	}
	for _, added := range s.secrets[s.learnt:] {
		for _, form := range formsOf(added.text) {
			form = lower(form)
			if !slices.Contains(s.forms, form) {
				s.forms = append(s.forms, form)
			}
			if added.whole || len(form) < piece {
				s.whole = append(s.whole, form)
				continue
			}
			for i := range len(form) - piece + 1 {
				s.pieces[form[i:i+piece]] = struct{}{}
			}
		}
	}
	s.learnt = len(s.secrets)
}

// formsOf are the ways in which messages and pages may write a secret.
func formsOf(secret string) []string {
	b := []byte(secret)
	quoted := strconv.Quote(secret)
	return []string{
		secret, quoted[1 : len(quoted)-1], url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret), hex.EncodeToString(b),
		base64.StdEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
	}
}

// spans are parts of a text, from one byte to before another one.
type spans [][2]int

func (l *spans) add(from, to int) {
	if from < to {
		*l = append(*l, [2]int{from, to})
	}
}

// find returns where text has a secret or a piece of one. These may overlap.
func (s *Set) find(text string) spans {
	text = lower(text)
	var found spans
	for _, form := range s.whole {
		for i := 0; ; i++ { // one may begin within another one
			next := strings.Index(text[i:], form)
			if next < 0 {
				break
			}
			i += next
			found.add(i, i+len(form))
		}
	}
	// A form that is not looked for as a whole is found by its pieces.
	for i := range max(0, len(text)-piece+1) {
		if _, secret := s.pieces[text[i:i+piece]]; secret {
			found.add(i, i+piece)
		}
	}
	return found
}

// beginning returns how many bytes at text's end begin a secret.
func (s *Set) beginning(text string) (longest int) {
	for _, form := range s.forms {
		for n := min(len(form)-1, len(text)); n > longest; n-- {
			if strings.HasSuffix(text, form[:n]) {
				longest = n
			}
		}
	}
	return longest
}

// replaceIn returns text with one mark for what is covered without a gap.
func (l spans) replaceIn(text string) string {
	slices.SortFunc(l, func(a, b [2]int) int { return a[0] - b[0] })
	var b strings.Builder
	end := 0
	for i, span := range l {
		if i == 0 || span[0] > end {
			b.WriteString(text[end:span[0]] + mark)
		}
		end = max(end, span[1])
	}
	return b.String() + text[end:]
}

// lower is strings.ToLower for ASCII alone: what it returns is as long as text.
func lower(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}
