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

// Marshal returns the index as a document, ready to be signed: the same bytes for the same index. An error wraps ErrMalformed and says which field is wrong.
func (x Index) Marshal() ([]byte, error) {
	doc := indexJSON{
		Type: indexType, Format: format, Sequence: x.Sequence, Issued: formatTime(x.Issued), Expires: formatTime(x.Expires), Keys: x.Keys,
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
