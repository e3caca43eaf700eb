package apply

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nebraska/omahaclient/internal/state"
)

// executable is what is to be replaced.
type executable struct {
	path  string // without links
	self  bool   // this program's own
	steps steps
}

func (b Binary) executable() (executable, error) {
	own, ownErr := os.Executable()
	if ownErr == nil {
		own, ownErr = resolved(own)
	}
	if b.Path == "" {
		return executable{own, true, b.steps}, ownErr
	}
	path, err := filepath.Abs(b.Path)
	if err == nil {
		path, err = resolved(path)
	}
	return executable{path, ownErr == nil && path == own, b.steps}, err
}

// resolved follows links, up to the directory where there is no such file yet.
func resolved(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("%s is a link to nowhere", path)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("%w: make the directory first", err)
	}
	return filepath.Join(dir, filepath.Base(path)), nil
}

func (x executable) beside(what string) string {
	return filepath.Join(filepath.Dir(x.path), "."+filepath.Base(x.path)+".omahaclient-"+what)
}

// keepOld makes the hard link to the old executable, where there is one.
func (x executable) keepOld() error {
	old, next := x.beside("old"), x.beside("old-next")
	if _, err := os.Stat(x.path); errors.Is(err, fs.ErrNotExist) {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := x.steps.take("link old", func() error { return x.linkOrCopy(x.path, next) }); err != nil {
		return fmt.Errorf("keep the old one: %w", err)
	}
	defer os.Remove(next) //nolint:errcheck // left where both are one file already
	if err := x.steps.take("keep old", func() error { return os.Rename(next, old) }); err != nil {
		return fmt.Errorf("keep the old one: %w", err)
	}
	return x.sync()
}

// place lets one of the files beside the executable take its place.
func (x executable) place(what string) error {
	return x.steps.take("place "+what, func() error { return place(x.beside(what), x.path, x.beside("away")) })
}

func (x executable) sync() error {
	return x.steps.take("sync", func() error { return state.SyncDir(filepath.Dir(x.path)) })
}

// putBack makes the old executable, which must be there, the one in place.
func (x executable) putBack() error {
	old, next := x.beside("old"), x.beside("back")
	if err := x.steps.take("link back", func() error { return x.linkOrCopy(old, next) }); err != nil {
		return err
	}
	defer os.Remove(next) //nolint:errcheck // left where both are one file already
	if err := x.place("back"); err != nil {
		return err
	}
	return x.sync()
}

// linkOrCopy gives a file another name, or makes a durable copy where the file system has no hard links.
func (x executable) linkOrCopy(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if x.steps.take("hard link", func() error { return os.Link(from, to) }) == nil {
		return nil
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, copyOwner(dst, info), dst.Chmod(info.Mode()), x.steps.syncFile(dst), dst.Close())
}

func named(sum hash.Hash) string { return "sha256:" + hex.EncodeToString(sum.Sum(nil)) }

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return named(sum), nil
}
