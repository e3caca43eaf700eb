package apply

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/nebraska/omahaclient/internal/state"
)

// swap is a replacement of an executable as it is written down in a file beside it, durably and before it takes place.
// Nothing is ever removed, and no interrupted replacement gone on with, but by its word. The replacement of this program's
// own executable has a state.Trial in its place.
type swap struct {
	Placed []string `json:"placed"`           // digests of what an Apply has put in place, or was about to; several where each was interrupted
	Old    string   `json:"old,omitempty"`    // digest of the one from before, which is kept beside
	First  bool     `json:"first,omitempty"`  // there was none before
	Proved bool     `json:"proved,omitempty"` // what is in place is well
	Back   bool     `json:"back,omitempty"`   // the one from before is to run again
}

// placed reports whether an Apply may have put the executable with this digest in place.
func (s *swap) placed(digest string) bool { return s != nil && slices.Contains(s.Placed, digest) }

// about returns s where it is about the executable with this digest; nil otherwise.
func (s *swap) about(digest string) *swap {
	if s.placed(digest) {
		return s
	}
	return nil
}

// loadSwap returns what is written down; nil for nothing.
func (x executable) loadSwap() (*swap, error) {
	if x.self {
		return nil, nil
	}
	content, err := os.ReadFile(x.beside("swap"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &swap{}
	if json.Unmarshal(content, s) != nil || len(s.Placed) == 0 {
		return nil, nil //nolint:nilerr // not by us, who write it whole: it is no word to go by
	}
	return s, nil
}

func (x executable) saveSwap(s *swap) error {
	if x.self {
		return nil
	}
	content, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return x.steps.take("write swap", func() error { return state.WriteDurably(x.beside("swap"), content) })
}

func (x executable) dropSwap() error {
	if x.self {
		return nil
	}
	return errors.Join(x.steps.take("drop swap", func() error { return os.Remove(x.beside("swap")) }), x.sync())
}

// present returns the digest of what is in place; "" for nothing.
func (x executable) present() (digest string, err error) {
	digest, err = digestOf(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return digest, err
}

// kept reports whether what was there before can be had back.
func (x executable) kept(s *swap) bool {
	if s.First {
		return true
	}
	digest, err := digestOf(x.beside("old"))
	return err == nil && digest == s.Old
}

// begin writes down that the executable now in place is to be replaced by another, and keeps it; unless that has never
// proved to be well itself: then the one before it stays the one to go back to.
func (x executable) begin(before *swap, now, next string) (*swap, error) {
	if before != nil && !before.Proved && (now == "" || before.placed(now)) && x.kept(before) {
		others := slices.DeleteFunc(slices.Clone(before.Placed), func(digest string) bool { return digest == next })
		s := &swap{Placed: append(others, next), Old: before.Old, First: before.First}
		return s, x.saveSwap(s)
	}
	s := &swap{Placed: []string{next}, Old: now, First: now == ""}
	if err := x.saveSwap(s); err != nil {
		return nil, err
	}
	if err := x.keepOld(); err != nil {
		return nil, errors.Join(err, x.dropSwap())
	}
	return s, nil
}

// goBack makes what was there before the one in place. back reports whether it is, even if an error tells that it may not
// last.
func (x executable) goBack(s *swap) (back bool, err error) {
	switch {
	case !x.kept(s):
		return false, errors.New("it is gone, or another one, under the name " + x.beside("old"))
	case s.First && s.Proved:
		return false, errors.New("there was none")
	}
	s.Back = true
	_ = x.saveSwap(s) // or the next start asks the probe again, before it goes back
	if s.First {
		err = x.steps.take("remove first", func() error { return os.Remove(x.path) })
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		err = errors.Join(err, x.sync())
	} else {
		err = x.putBack()
	}
	now, lookErr := x.present()
	return now == s.Old && lookErr == nil, err
}
