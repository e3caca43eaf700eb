package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nebraska/omahaclient/internal/durable"
)

const (
	memoryFile   = "trust.json"
	damaged      = ".damaged" // ends the name of a memory that could not be read
	memoryFormat = 1
	maxMemory    = 2 << 20 // bytes
	maxLines     = 512     // far more than one app has; the one that was raised the longest time ago is forgotten
	maxAhead     = 24 * time.Hour
)

// memory is what was verified for one app.
type memory struct {
	Pinned    []string  `json:"pinned,omitempty"`    // the program's own keys when others took their place
	Keys      []string  `json:"keys,omitempty"`      // those others
	Rotated   time.Time `json:"rotated,omitzero"`    // when the document was issued that listed them last, as it says
	Learnt    time.Time `json:"learnt,omitzero"`     // the same, or when it was verified, whichever is earlier
	Clock     time.Time `json:"clock,omitzero"`      // no earlier than this is it
	Lines     history   `json:"lines,omitempty"`     // of statements
	Indexes   history   `json:"indexes,omitempty"`   // one line
	Former    seen      `json:"index,omitzero"`      // the newest index, as memories had it that did not note who signed
	Statement *keptJSON `json:"statement,omitempty"` // the last one
}

type keptJSON struct {
	Version    string `json:"version"`
	Where      string `json:"where"`
	Document   []byte `json:"document"`
	Signatures []byte `json:"signatures"`
}

// memoryJSON is the file. The sum is there for damage; whoever can write the file needs no attack on it.
type memoryJSON struct {
	Format int             `json:"format"`
	SHA256 string          `json:"sha256"` // of the bytes in Memory
	Memory json.RawMessage `json:"memory"`
}

// load reads the memory in dir; where there is none, it is empty. One that cannot be understood is set aside and told of, and an
// empty one takes its place: else a bad block of flash would end all updates. What is lost then is told in docs/trust.md.
func (s *Statements) load(dir string) (*memory, error) {
	path := filepath.Join(dir, memoryFile)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &memory{}, nil
	}
	var content []byte
	odd := err == nil && (!info.Mode().IsRegular() || info.Size() > maxMemory)
	if err == nil && !odd {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was verified before: %w", err)
	}
	m, err := decodeMemory(content)
	if err == nil {
		return m, nil
	}
	if err := errors.Join(os.RemoveAll(path+damaged), os.Rename(path, path+damaged)); err != nil {
		return nil, fmt.Errorf("set aside what was verified before, which is damaged: %w", err)
	}
	s.log.Error("what was verified before is damaged and set aside: older releases and former keys are trusted again, down to what this program has built in",
		"path", path+damaged, "error", err)
	return &memory{}, nil
}

// store writes the memory, which has learnt of a document that was issued then. The clock takes no more than a day ahead of the
// machine's from it: a publisher's wrong year must not make every later document expired.
func (m *memory) store(dir string, now, issued time.Time) error {
	if latest := now.Add(maxAhead); issued.After(latest) {
		issued = latest.UTC().Truncate(time.Second)
	}
	m.Clock = later(m.Clock, issued)
	content, err := m.encode()
	if err == nil {
		err = durable.MkdirAll(dir)
	}
	if err == nil {
		err = durable.Write(filepath.Join(dir, memoryFile), content)
	}
	if err != nil {
		return fmt.Errorf("remember what was verified: %w", err)
	}
	return nil
}

func (m *memory) encode() ([]byte, error) {
	content, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return json.Marshal(memoryJSON{memoryFormat, digestOf(content), content})
}

func decodeMemory(content []byte) (*memory, error) {
	var file memoryJSON
	if err := json.Unmarshal(content, &file); err != nil {
		return nil, err
	}
	if file.Format != memoryFormat {
		return nil, fmt.Errorf("format is %d, and this program knows %d", file.Format, memoryFormat)
	}
	if digestOf(file.Memory) != file.SHA256 {
		return nil, errors.New("its sum is wrong")
	}
	m := &memory{}
	if err := json.Unmarshal(file.Memory, m); err != nil {
		return nil, err
	}
	if m.Former.Sequence > 0 {
		m.Indexes, m.Former = append(m.Indexes, line{seen: m.Former}), seen{}
	}
	return m, m.check()
}

func (m *memory) check() error {
	if len(m.Lines) > maxLines || len(m.Indexes) > maxLines {
		return errors.New("it has too many lines")
	}
	for _, keys := range [][]string{m.Keys, m.Pinned} {
		if len(keys) == 0 {
			continue
		}
		if _, err := parseKeys(keys); err != nil {
			return err
		}
	}
	return nil
}

// now is the time: the machine's clock, or what the publisher has proved to be past, whichever is later.
func (m *memory) now(clock time.Time) time.Time { return later(m.Clock, clock) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// raise remembers a statement, for each channel that it is for, and reports whether that is new.
func (m *memory) raise(claim Claim, st verified, doc Signed) bool {
	changed := m.keep(st.Statement, doc)
	for _, channel := range st.Channels {
		l := lineOf(claim.AppID, channel, claim.Arch)
		l.seen = seen{st.Sequence, digestOf(doc.Document), st.by}
		var raised bool
		m.Lines, raised = m.Lines.raise(l)
		changed = changed || raised
	}
	m.Lines = m.Lines[max(0, len(m.Lines)-maxLines):]
	return changed
}

// keep remembers the statement itself, so that the same release can be verified without a network.
func (m *memory) keep(st Statement, doc Signed) bool {
	if m.Statement != nil && string(m.Statement.Document) == string(doc.Document) {
		return false
	}
	m.Statement = &keptJSON{Version: st.Version, Where: doc.Where, Document: doc.Document, Signatures: doc.Signatures}
	return true
}

// kept returns the remembered statement, if it speaks of the claim's version.
func (s *Statements) kept(claim Claim) (Signed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.load(claim.Dir)
	if err != nil || m.Statement == nil || m.Statement.Version != claim.Version {
		return Signed{}, err
	}
	return Signed{Where: m.Statement.Where, Document: m.Statement.Document, Signatures: m.Statement.Signatures}, nil
}
