package trust

import (
	"slices"
	"time"

	"aead.dev/minisign"
)

// trusted returns the keys that are trusted now: the pinned ones, or those that took their place.
func (s *Statements) trusted(m *memory) []minisign.PublicKey {
	if len(m.Keys) == 0 || !slices.Equal(m.Pinned, sorted(s.pinned)) {
		return s.pinned
	}
	keys, err := parseKeys(m.Keys)
	if err != nil { // it was checked when it was read
		return s.pinned
	}
	return keys
}

// rotate takes the keys that a document lists, which was verified, and which each of them signed too. It reports whether the memory
// changed. What was issued before the present keys were listed is an old story, told again: its keys are passed over, so that none comes back.
func (s *Statements) rotate(m *memory, claim Claim, listed []string, issued time.Time) bool {
	if len(listed) == 0 {
		return false
	}
	keys, err := parseKeys(listed)
	if err != nil { // it was checked when the document was read
		return false
	}
	trusted := s.trusted(m)
	before, after, pinned := sorted(trusted), sorted(keys), sorted(s.pinned)
	if m.overtaken(issued, claim.Now, before) {
		if !slices.Equal(before, after) {
			s.log.Warn("keys that a document lists are passed over: it was issued before the one that set the present keys",
				"app_id", claim.AppID, "issued", issued, "listed", shortKeys(keys), "trusted", shortKeys(trusted))
		}
		return false
	}
	if slices.Equal(m.Keys, after) && slices.Equal(m.Pinned, pinned) && m.Rotated.Equal(issued) {
		return false
	}
	m.Pinned, m.Keys, m.Rotated, m.Learnt = pinned, after, issued, issued
	if seen := claim.Now.UTC().Truncate(time.Second); seen.Before(issued) {
		m.Learnt = seen
	}
	if !slices.Equal(before, after) {
		s.log.Warn("the publisher has changed its keys", "app_id", claim.AppID, "before", shortKeys(trusted), "now", shortKeys(keys))
	}
	return true
}

// overtaken reports whether a document that lists keys was issued before the one that changed keys last. That one's word counts while a key
// that it listed, and that signed it, is trusted: a build with other keys owes nothing to it. If it was issued more than a day ahead of the
// clock, and this one was not, then a wrong year is likely: this one need only have been issued since that one was seen here.
func (m *memory) overtaken(issued, now time.Time, trusted []string) bool {
	if !slices.ContainsFunc(m.Keys, func(key string) bool { return slices.Contains(trusted, key) }) {
		return false
	}
	latest := now.Add(maxAhead)
	if m.Rotated.After(latest) && !issued.After(latest) {
		return issued.Before(m.Learnt)
	}
	return issued.Before(m.Rotated)
}
