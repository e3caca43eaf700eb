package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	asideMark = ".set-aside-"
	maxAside  = 10 // of the newest; a disk that damages the journal again and again is not to be filled as well
)

// setAside renames a file that cannot be used, so that it can be looked at, and returns its new name; "" where it is gone.
func (s *store) setAside() (name string, err error) {
	path, err := unusedName(s.path + asideMark + time.Now().UTC().Format("20060102T150405.000"))
	if err != nil {
		return "", err
	}
	switch err := os.Rename(s.path, path); {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("set journal aside: %w", err)
	}
	return filepath.Base(path), errors.Join(s.dropOldest(), syncDir(filepath.Dir(s.path)))
}

// unusedName appends a number to name if there is such a file already.
func unusedName(name string) (string, error) {
	for n, try := 2, name; ; n++ {
		if _, err := os.Lstat(try); errors.Is(err, fs.ErrNotExist) {
			return try, nil
		} else if err != nil {
			return "", fmt.Errorf("set journal aside: %w", err)
		}
		try = fmt.Sprintf("%s-%d", name, n)
	}
}

func (s *store) dropOldest() error {
	dir, err := os.ReadDir(filepath.Dir(s.path)) // sorted by name, which begins with the time
	if err != nil {
		return err
	}
	var old []string
	for _, e := range dir {
		if ok, _ := filepath.Match(filepath.Base(s.path)+asideMark+"*", e.Name()); ok {
			old = append(old, filepath.Join(filepath.Dir(s.path), e.Name()))
		}
	}
	var errs []error
	for name := range slices.Values(old[:max(len(old)-maxAside, 0)]) {
		errs = append(errs, os.RemoveAll(name))
	}
	return errors.Join(errs...)
}
