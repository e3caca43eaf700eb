package trust

import (
	"fmt"
	"slices"
	"time"
)

// Statement is a release statement: what a publisher says of one release. docs/trust.md has its form as a document.
type Statement struct {
	App      string   // app id, at most 255 bytes; compared without regard to the case of ASCII letters, as Omaha does
	Channels []string // the release is for, compared exactly; "" is for apps that follow none. from 1 to 64, each once
	Arch     string   // GOARCH's name of an architecture (amd64, arm64, …), or AnyArch
	Version  string   // exactly as the update server offers it, at most 255 bytes

	// Sequence is from 1 to MaxSequence and rises with every statement for an app, channel and architecture: one with the highest
	// sequence seen, but other content, is refused, and so is every lower one. AnyArch counts for each architecture.
	Sequence uint64

	Issued  time.Time // whole seconds (what is below is cut off)
	Expires time.Time // as Issued, and later than it: from then on the statement is refused

	// Payloads are all that is to be fetched: at least one. A file has a name (unlike that of any other file here), a size of at least one
	// byte, and its SHA-256 as Digest. An image has a name, which is for people alone, and the digest of its index or manifest. The first one
	// is the main one: a server that offers another one of them before it is refused.
	Payloads []Payload

	// Keys replace the trusted keys: minisign public keys, as NewStatements takes them; at most MaxKeys. None: nothing changes. The statement
	// must be signed by one of the keys that are trusted so far and by each one in Keys.
	Keys []string
}

const (
	// AnyArch stands for every architecture in a Statement or a Head.
	AnyArch = "all"
	// MaxSequence is the highest sequence: 2^53-1, the largest whole number that every JSON implementation reads exactly.
	MaxSequence = 1<<53 - 1
	// MaxSignatures is how many signatures a file of signatures has at most.
	MaxSignatures = 8
	// MaxKeys is how many keys a document lists at most: one less than MaxSignatures, since an old key signs too.
	MaxKeys = MaxSignatures - 1
)

const (
	statementType = "omahaclient-release"
	format        = 1
)

// statementJSON is a Statement as a document.
type statementJSON struct {
	Type     string        `json:"type"`
	Format   int           `json:"format"`
	App      string        `json:"app"`
	Channels []string      `json:"channels"`
	Arch     string        `json:"arch"`
	Version  string        `json:"version"`
	Sequence uint64        `json:"sequence"`
	Issued   string        `json:"issued"`
	Expires  string        `json:"expires"`
	Payloads []payloadJSON `json:"payloads"`
	Keys     []string      `json:"keys,omitempty"`
}

type payloadJSON struct {
	Name   string  `json:"name"`
	Size   *int64  `json:"size,omitempty"`   // of a file
	SHA256 *string `json:"sha256,omitempty"` // of a file
	Image  *string `json:"image,omitempty"`  // of an image
}

// Marshal returns the statement as a document, ready to be signed: the same bytes for the same statement. An error wraps ErrMalformed and
// says which field is wrong.
func (s Statement) Marshal() ([]byte, error) {
	doc := statementJSON{
		Type: statementType, Format: format, App: s.App, Channels: s.Channels, Arch: s.Arch, Version: s.Version, Sequence: s.Sequence,
		Issued: formatTime(s.Issued), Expires: formatTime(s.Expires), Keys: plainKeys(s.Keys),
	}
	for _, p := range s.Payloads {
		doc.Payloads = append(doc.Payloads, payloadToJSON(p))
	}
	b, err := marshal(doc)
	if err != nil {
		return nil, malformed("release statement", err)
	}
	if _, err := ParseStatement(b); err != nil {
		return nil, err
	}
	return b, nil
}

// ParseStatement reads a document, strictly: what a reader of another implementation could understand otherwise is refused. It checks no
// signature and no time. Errors wrap ErrMalformed.
func ParseStatement(document []byte) (Statement, error) {
	var doc statementJSON
	s, err := Statement{}, unmarshal(document, statementType, &doc)
	if err == nil {
		s, err = doc.statement()
	}
	if err != nil {
		return Statement{}, malformed("release statement", err)
	}
	return s, nil
}

func (doc *statementJSON) statement() (Statement, error) {
	s := Statement{App: doc.App, Channels: doc.Channels, Arch: doc.Arch, Version: doc.Version, Sequence: doc.Sequence, Keys: doc.Keys}
	var err error
	if s.Issued, s.Expires, err = parseTimes(doc.Issued, doc.Expires); err != nil {
		return s, err
	}
	switch {
	case len(s.Channels) == 0:
		return s, missing("channels")
	case len(doc.Payloads) == 0:
		return s, missing("payloads")
	}
	for i, channel := range s.Channels {
		if slices.Contains(s.Channels[:i], channel) {
			return s, fmt.Errorf("channel %q is listed twice", channel)
		}
	}
	for i, p := range doc.Payloads {
		payload, err := p.payload()
		if err != nil {
			return s, fmt.Errorf("payload %d: %w", i+1, err)
		}
		if !payload.Image && slices.ContainsFunc(s.Payloads, func(o Payload) bool { return !o.Image && o.Name == payload.Name }) {
			return s, fmt.Errorf("file %q is listed twice", payload.Name)
		}
		s.Payloads = append(s.Payloads, payload)
	}
	return s, firstError(
		checkText("app", s.App), checkArch(s.Arch), checkText("version", s.Version), checkSequence(s.Sequence), checkChannels(s.Channels), checkKeys(s.Keys))
}

func payloadToJSON(p Payload) payloadJSON {
	if p.Image {
		return payloadJSON{Name: p.Name, Image: &p.Digest}
	}
	hex, ok := cutDigest(p.Digest)
	if !ok {
		hex = p.Digest // refused, by its right name
	}
	return payloadJSON{Name: p.Name, Size: &p.Size, SHA256: &hex}
}

func (p *payloadJSON) payload() (Payload, error) {
	if err := checkText("name", p.Name); err != nil {
		return Payload{}, err
	}
	if p.Image != nil {
		if _, ok := cutDigest(*p.Image); !ok || p.Size != nil || p.SHA256 != nil {
			return Payload{}, fmt.Errorf(`image %q: an image has a name and a digest, "sha256:" and 64 lower-case hexadecimal digits, and no more`, p.Name)
		}
		return Payload{Name: p.Name, Image: true, Digest: *p.Image}, nil
	}
	if p.SHA256 == nil || p.Size == nil {
		return Payload{}, fmt.Errorf("payload %q has neither an image's digest nor a file's size and sha256", p.Name)
	}
	digest := digestPrefix + *p.SHA256
	switch _, ok := cutDigest(digest); {
	case !ok:
		return Payload{}, fmt.Errorf("file %q: sha256 is not 64 lower-case hexadecimal digits", p.Name)
	case *p.Size < 1 || *p.Size > MaxSequence:
		return Payload{}, fmt.Errorf("file %q: size %d is not from 1 to 2^53-1 bytes", p.Name, *p.Size)
	}
	return Payload{Name: p.Name, Size: *p.Size, Digest: digest}, nil
}
