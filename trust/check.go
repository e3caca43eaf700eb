package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"aead.dev/minisign"
)

// progress is how near to trust a document came.
type progress int

const (
	isNothing  progress = iota
	isUnsigned          // there is something, but nobody trusted signed it
	isSigned            // a trusted key signed it
	isOurs              // and it speaks of this version for this app, channel and architecture
	isNewest            // and it is not older than what was released before
	isValid             // and it has not expired
)

// finding is what is wrong with a document.
type finding struct {
	progress progress
	err      error // nil: nothing
}

// statement checks one statement against a claim, and remembers it if it holds.
func (s *Statements) statement(claim Claim, doc Signed) (Release, finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.load(claim.Dir)
	if err != nil {
		return Release{}, finding{err: err}
	}
	st, f := s.checkStatement(claim, doc, m)
	if f.err != nil {
		return Release{}, finding{progress: f.progress, err: fmt.Errorf("statement at %s: %w", doc.Where, f.err)}
	}
	changed := s.rotate(m, claim, st.Keys, st.Issued)
	if m.raise(claim, st, doc) || changed {
		if err := m.store(claim.Dir, claim.Now, st.Issued); err != nil {
			return Release{}, finding{err: err}
		}
	}
	return Release{
		Version: st.Version, Sequence: st.Sequence, Issued: st.Issued, Expires: st.Expires, Where: doc.Where, Payloads: st.payloads,
	}, finding{}
}

// verified is a statement that holds.
type verified struct {
	Statement
	payloads []Payload // the claim's, as the statement has them
	by       []string  // sorted lines of the keys that signed it: those that are trusted, and those that it lists
}

// checkStatement changes nothing. Nothing of a document is read before a signature of a trusted key is found to be good.
func (s *Statements) checkStatement(claim Claim, doc Signed, m *memory) (verified, finding) {
	fail := func(p progress, err error) (verified, finding) { return verified{}, finding{progress: p, err: err} }
	signed, err := s.checkSignature(doc, m)
	if err != nil {
		return fail(isUnsigned, err)
	}
	st := verified{}
	if st.Statement, err = ParseStatement(doc.Document); err == nil {
		st.by, err = checkListed(doc, signed, st.Keys)
	}
	if err != nil {
		return fail(isSigned, err)
	}
	if err := st.checkSubject(claim); err != nil {
		return fail(isSigned, err)
	}
	if st.Sequence < s.minimum {
		return fail(isOurs, fmt.Errorf("%w: its sequence is %d, and this program takes none below %d", ErrRollback, st.Sequence, s.minimum))
	}
	of := lineOf(claim.AppID, claim.Channel, claim.Arch)
	if err := m.Lines.check(of, sorted(s.trusted(m)), st.Sequence, doc.Document); err != nil {
		return fail(isOurs, err)
	}
	if err := checkExpiry(m.now(claim.Now), st.Expires); err != nil {
		return fail(isNewest, err)
	}
	if st.payloads, err = st.match(claim.Payloads); err != nil {
		return fail(isValid, err)
	}
	return st, finding{}
}

// checkSignature looks for good signatures of keys that are trusted now, and returns these keys: one at least.
func (s *Statements) checkSignature(doc Signed, m *memory) ([]minisign.PublicKey, error) {
	if len(doc.Document) > MaxDocument {
		return nil, fmt.Errorf("%w: %d bytes are more than %d", ErrMalformed, len(doc.Document), MaxDocument)
	}
	if len(doc.Signatures) == 0 {
		return nil, fmt.Errorf("%w: there is no signature with it", ErrSignature)
	}
	trusted := s.trusted(m)
	by, err := signers(doc, trusted)
	if err == nil && len(by) == 0 {
		err = fmt.Errorf("%w: trusted are %s", ErrSignature, shortKeys(trusted))
	}
	return by, err
}

// checkListed demands a good signature of each key that a document lists. It returns the lines of all who are known to have signed it: those and these.
func checkListed(doc Signed, those []minisign.PublicKey, listed []string) ([]string, error) {
	if len(listed) == 0 {
		return sorted(those), nil
	}
	keys, err := parseKeys(listed)
	if err != nil {
		return nil, malformed("keys", err)
	}
	by, err := signers(doc, keys)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if !contains(by, key) {
			return nil, fmt.Errorf("%w: it lists key %s, which did not sign it", ErrSignature, shortKeys([]minisign.PublicKey{key}))
		}
	}
	return slices.Compact(sorted(append(by, those...))), nil
}

func (s Statement) checkSubject(claim Claim) error {
	switch {
	case foldApp(s.App) != foldApp(claim.AppID):
		return fmt.Errorf("%w: app %s", ErrMismatch, s.App)
	case !slices.Contains(s.Channels, claim.Channel):
		return fmt.Errorf("%w: it is not for channel %q", ErrMismatch, claim.Channel)
	case s.Arch != AnyArch && s.Arch != claim.Arch:
		return fmt.Errorf("%w: architecture %s, and this machine's is %s", ErrMismatch, s.Arch, claim.Arch)
	case s.Version != claim.Version:
		return fmt.Errorf("%w: version %s", ErrMismatch, s.Version)
	}
	return nil
}

func checkExpiry(now, expires time.Time) error {
	if now.Before(expires) {
		return nil
	}
	return fmt.Errorf("%w: at %s, and now it is %s", ErrExpired, formatTime(expires), formatTime(now))
}

func digestOf(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}
