package trust

import (
	"fmt"
	"slices"
)

// history is which documents were verified, for each line the newest one of each key: a key's word binds as long as the key is trusted. Else
// whoever stole a key, and signed the highest sequence of all with it, would have ended all updates, those by the next keys too.
type history []line

// line is the newest statement for an app, channel and architecture, or the newest index, which has none of these, among those of some keys.
type line struct {
	App     string `json:"app,omitempty"`
	Channel string `json:"channel,omitempty"`
	Arch    string `json:"arch,omitempty"`
	seen
}

// seen is a document.
type seen struct {
	Sequence uint64   `json:"sequence"`
	SHA256   string   `json:"sha256"`
	By       []string `json:"by,omitempty"` // sorted lines of the keys that signed it; none where that was not noted: it counts whoever is trusted
}

func lineOf(app, channel, arch string) line {
	return line{App: foldApp(app), Channel: channel, Arch: arch}
}

func (l line) same(o line) bool { return l.App == o.App && l.Channel == o.Channel && l.Arch == o.Arch }

// binds reports whether one of these keys signed the document.
func (s seen) binds(keys []string) bool {
	return len(s.By) == 0 || slices.ContainsFunc(s.By, func(key string) bool { return slices.Contains(keys, key) })
}

// check compares a document with those of its line that one of the trusted keys signed.
func (h history) check(of line, trusted []string, sequence uint64, document []byte) error {
	for _, l := range h {
		if !l.same(of) || !l.binds(trusted) {
			continue
		}
		if err := l.check(sequence, document); err != nil {
			return err
		}
	}
	return nil
}

func (s seen) check(sequence uint64, document []byte) error {
	switch {
	case sequence < s.Sequence:
		return fmt.Errorf("%w: its sequence is %d, and %d was verified before", ErrRollback, sequence, s.Sequence)
	case sequence == s.Sequence && digestOf(document) != s.SHA256:
		return fmt.Errorf("%w: another document with sequence %d was verified before (sha256 %s): the publisher must never sign two for one sequence",
			ErrMismatch, sequence, s.SHA256)
	}
	return nil
}

// raise notes a document for those of its keys that have signed none of that sequence or a higher one in its line. It reports
// whether there are any. What was raised last comes last.
func (h history) raise(next line) (history, bool) {
	for _, l := range h {
		if !l.same(next) || l.Sequence < next.Sequence {
			continue
		}
		if len(l.By) == 0 {
			return h, false
		}
		next.By = without(next.By, l.By)
	}
	if len(next.By) == 0 {
		return h, false
	}
	raised := make(history, 0, len(h)+1)
	for _, l := range h {
		if l.same(next) && l.Sequence < next.Sequence {
			if l.By = without(l.By, next.By); len(l.By) == 0 {
				continue
			}
		}
		raised = append(raised, l)
	}
	return append(raised, next), true
}

// without returns what is in a and not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(key string) bool { return slices.Contains(b, key) })
}
