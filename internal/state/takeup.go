package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// load reads the journal; or, in the place of one that is gone or damaged, the new one that a rebuild had completed when it
// was interrupted. Nothing of a rebuild is left afterwards.
func (s *store) load() (map[string]*App, error) {
	apps, err := s.read()
	fresh := &store{path: s.path + freshMark, machine: s.machine, log: s.log}
	if apps == nil && (err == nil || errors.Is(err, errBroken)) {
		if taken, freshErr := fresh.read(); freshErr == nil && taken != nil {
			return taken, s.takeUp(fresh, err)
		}
	}
	if err := os.Remove(fresh.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("what is left of an interrupted write cannot be removed", "path", fresh.path, "error", err)
	}
	return apps, err
}

// takeUp puts fresh in s's place, as the rebuild would have done; cause is what is wrong with s, nil if it is gone.
func (s *store) takeUp(fresh *store, cause error) error {
	name, err := s.setAside()
	if err != nil {
		return err
	}
	if err := os.Rename(fresh.path, s.path); err != nil {
		return fmt.Errorf("take up journal: %w", err)
	}
	s.total = fresh.total
	s.log.Warn("journal taken up from where the last run had written it again", "path", s.path, "set_aside", name, "cause", cause)
	return syncDir(filepath.Dir(s.path))
}
