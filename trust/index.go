package trust

import (
	"fmt"
	"time"
)

// Index is a release index: a publisher's signed word about what is newest, for many apps in one file. It lies where no update server
// has a hand in it, so that one that withholds releases is noticed. docs/trust.md has its form as a document.
type Index struct {
	Sequence uint64    // from 1 to MaxSequence; rises with every index
	Issued   time.Time // whole seconds (what is below is cut off)
	Expires  time.Time // as Issued, and later than it
	Heads    []Head    // at least one; one for an app, channel and architecture
	Keys     []string  // as a Statement's
}

// Head is the newest release for an app, channel and architecture.
type Head struct {
	App      string // as a Statement's
	Channel  string // "" is for apps that follow none
	Arch     string // GOARCH's name of an architecture, or AnyArch, which is for those without a head of their own
	Version  string // as a Statement's
	Sequence uint64 // of its statement
}

const indexType = "omahaclient-index"

// indexJSON is an Index as a document.
type indexJSON struct {
	Type     string     `json:"type"`
	Format   int        `json:"format"`
	Sequence uint64     `json:"sequence"`
	Issued   string     `json:"issued"`
	Expires  string     `json:"expires"`
	Heads    []headJSON `json:"heads"`
	Keys     []string   `json:"keys,omitempty"`
}

type headJSON struct {
	App      string  `json:"app"`
	Channel  *string `json:"channel"`
	Arch     string  `json:"arch"`
	Version  string  `json:"version"`
	Sequence uint64  `json:"sequence"`
}

// Marshal returns the index as a document, ready to be signed: the same bytes for the same index. An error wraps ErrMalformed and
// says which field is wrong.
func (x Index) Marshal() ([]byte, error) {
	doc := indexJSON{
		Type: indexType, Format: format, Sequence: x.Sequence, Issued: formatTime(x.Issued), Expires: formatTime(x.Expires), Keys: plainKeys(x.Keys),
	}
	for _, h := range x.Heads {
		doc.Heads = append(doc.Heads, headJSON{App: h.App, Channel: &h.Channel, Arch: h.Arch, Version: h.Version, Sequence: h.Sequence})
	}
	b, err := marshal(doc)
	if err != nil {
		return nil, malformed("release index", err)
	}
	if _, err := ParseIndex(b); err != nil {
		return nil, err
	}
	return b, nil
}

// ParseIndex reads a document as strictly as ParseStatement does. It checks no signature and no time. Errors wrap ErrMalformed.
func ParseIndex(document []byte) (Index, error) {
	var doc indexJSON
	x, err := Index{}, unmarshal(document, indexType, &doc)
	if err == nil {
		x, err = doc.index()
	}
	if err != nil {
		return Index{}, malformed("release index", err)
	}
	return x, nil
}

func (doc *indexJSON) index() (Index, error) {
	x := Index{Sequence: doc.Sequence, Keys: doc.Keys}
	var err error
	if x.Issued, x.Expires, err = parseTimes(doc.Issued, doc.Expires); err != nil {
		return x, err
	}
	if len(doc.Heads) == 0 {
		return x, missing("heads")
	}
	seen := make(map[[3]string]bool, len(doc.Heads))
	for i, h := range doc.Heads {
		if h.Channel == nil {
			return x, fmt.Errorf("head %d: %w", i+1, missing("channel"))
		}
		head := Head{App: h.App, Channel: *h.Channel, Arch: h.Arch, Version: h.Version, Sequence: h.Sequence}
		if err := head.check(); err != nil {
			return x, fmt.Errorf("head %d: %w", i+1, err)
		}
		line := [3]string{foldApp(head.App), head.Channel, head.Arch}
		if seen[line] {
			return x, fmt.Errorf("app %q, channel %q and architecture %s have two heads", head.App, head.Channel, head.Arch)
		}
		seen[line] = true
		x.Heads = append(x.Heads, head)
	}
	return x, firstError(checkSequence(x.Sequence), checkKeys(x.Keys))
}

func (h Head) check() error {
	return firstError(
		checkText("app", h.App), checkChannels([]string{h.Channel}), checkArch(h.Arch), checkText("version", h.Version), checkSequence(h.Sequence))
}

// head returns the one for an app, channel and architecture.
func (x Index) head(app, channel, arch string) (Head, bool) {
	var best Head
	for _, h := range x.Heads {
		if foldApp(h.App) != foldApp(app) || h.Channel != channel {
			continue
		}
		if h.Arch == arch {
			return h, true
		}
		if h.Arch == AnyArch {
			best = h
		}
	}
	return best, best.App != ""
}

// Index verifies a release index and returns the head for the claim's AppID, Channel and Arch; of the claim, Now and Dir are used too. What was
// verified is on disk when it returns: from then on no older index is taken. The signatures stand beside the index, under its name with IndexSignatureSuffix.
//
// Only a nil error is fresh word from the publisher. For an alarm that updates may be withheld, errors mean:
//
//   - ErrExpired: an authentic index, but an old one: its publisher has stopped, or somebody shows a former one.
//   - ErrRollback: an index older than one that was seen before is shown: by somebody hostile, or by a host whose copies differ.
//   - ErrMismatch: it is authentic, but it has no head for this app, channel and architecture, or the publisher has signed another one under the same sequence.
//   - ErrSignature, ErrMalformed: it is not the publisher's, or the publisher's keys have changed without this client having seen it.
//   - any other error, which does not wrap ErrUntrusted: what was seen before could not be read or written here; nothing is known.
//
// A head below what runs here says that nothing newer is known, and no more: a statement may be published before the index that names it.
func (s *Statements) Index(claim Claim, signed Signed) (Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	head, err := s.index(claim, signed)
	if err != nil {
		return Head{}, fmt.Errorf("release index at %s: %w", signed.Where, err)
	}
	return head, nil
}

func (s *Statements) index(claim Claim, doc Signed) (Head, error) {
	m, err := s.load(claim.Dir)
	if err != nil {
		return Head{}, err
	}
	signed, err := s.checkSignature(doc, m)
	if err != nil {
		return Head{}, err
	}
	x, err := ParseIndex(doc.Document)
	if err != nil {
		return Head{}, err
	}
	by, err := checkListed(doc, signed, x.Keys)
	if err != nil {
		return Head{}, err
	}
	older := m.Indexes.check(line{}, sorted(s.trusted(m)), x.Sequence, doc.Document)
	if err := firstError(older, checkExpiry(m.now(claim.Now), x.Expires)); err != nil {
		return Head{}, err
	}
	head, ok := x.head(claim.AppID, claim.Channel, claim.Arch)
	if !ok {
		return Head{}, fmt.Errorf("%w: it has no head for app %s, channel %q and architecture %s", ErrMismatch, claim.AppID, claim.Channel, claim.Arch)
	}
	changed := s.rotate(m, claim, x.Keys, x.Issued)
	var raised bool
	m.Indexes, raised = m.Indexes.raise(line{seen: seen{x.Sequence, digestOf(doc.Document), by}})
	if raised || changed {
		err = m.store(claim.Dir, claim.Now, x.Issued)
	}
	return head, err
}
