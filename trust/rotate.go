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
func (s *Statements) rotate(m *memory, appID string, listed []string, issued time.Time) bool {
	if len(listed) == 0 || issued.Before(m.Rotated) {
		return false
	}
	keys, err := parseKeys(listed)
	if err != nil { // it was checked when the document was read
		return false
	}
	trusted := s.trusted(m)
	before, after, pinned := sorted(trusted), sorted(keys), sorted(s.pinned)
	if slices.Equal(m.Keys, after) && slices.Equal(m.Pinned, pinned) && m.Rotated.Equal(issued) {
		return false
	}
	m.Pinned, m.Keys, m.Rotated = pinned, after, issued
	if !slices.Equal(before, after) {
		s.log.Warn("the publisher has changed its keys", "app_id", appID, "before", shortKeys(trusted), "now", shortKeys(keys))
	}
	return true
}
