package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

const (
	payloadsDir = "payloads"
	sharedDir   = "shared"
	trustDir    = "trust"
)

// folder is the part of a payload folder's path that belongs to the app: made of nothing but the app's id.
func folder(appID string) string {
	sum := sha256.Sum256([]byte(appID))
	return path.Join(payloadsDir, hex.EncodeToString(sum[:8]))
}

// PayloadDir returns the folder for one payload of the app's release with this identity, creating it. identity and
// payload are plain names of our own making.
func (d *Dir) PayloadDir(appID, identity, payload string) (string, error) {
	for _, name := range []string{identity, payload} {
		if !filepath.IsLocal(name) || filepath.Base(name) != name || name == "." {
			return "", fmt.Errorf("make payload folder: %q is no plain name", name)
		}
	}
	return d.mkdir(path.Join(folder(appID), identity, payload))
}

// TrustDir returns the folder for what the app's verifier remembers, creating it. It outlives the app's payloads and records.
func (d *Dir) TrustDir(appID string) (string, error) {
	return d.mkdir(path.Join(trustDir, path.Base(folder(appID))))
}

// SharedDir returns the folder that all payloads of a media type share, creating it.
func (d *Dir) SharedDir(mediaType string) (string, error) { return d.mkdir(sharedName(mediaType)) }

// HasShared returns the path of that folder and whether it is there.
func (d *Dir) HasShared(mediaType string) (string, bool) {
	dir := filepath.Join(d.Path, filepath.FromSlash(sharedName(mediaType)))
	_, err := os.Lstat(dir)
	return dir, err == nil
}

func sharedName(mediaType string) string {
	sum := sha256.Sum256([]byte(mediaType))
	return path.Join(sharedDir, hex.EncodeToString(sum[:8]))
}

func (d *Dir) mkdir(name string) (string, error) {
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return "", fmt.Errorf("make payload folder: %w", err)
	}
	defer root.Close()
	if err := root.MkdirAll(filepath.FromSlash(name), 0o700); err != nil {
		return "", fmt.Errorf("make payload folder: %w", err)
	}
	return filepath.Join(d.Path, filepath.FromSlash(name)), nil
}

// Clean removes the app's payload folders but those of the identities in keep.
func (d *Dir) Clean(appID string, keep []string) error {
	return d.within(func(root *os.Root) error {
		return cleanApp(root, folder(appID), keep)
	})
}

// CleanAll removes every payload folder that no record in the journal keeps: what apps left that are gone. Of what payloads
// share it keeps the folders of these media types; the others too while an update is open or waits for a restart, since its program may
// still look there.
func (d *Dir) CleanAll(mediaTypes []string) error {
	keep, open := map[string][]string{}, false
	for _, id := range d.Journal.IDs() {
		rec := d.Journal.Get(id)
		keep[path.Base(folder(id))] = rec.Keeps()
		open = open || rec.Update != nil || rec.Pending != nil
	}
	return d.within(func(root *os.Root) error {
		err := cleanRealFolder(root, d.Path, payloadsDir, func(app string) (bool, error) {
			return len(keep[app]) > 0, cleanApp(root, path.Join(payloadsDir, app), keep[app])
		})
		if open {
			return err
		}
		var shared []string
		for _, mediaType := range mediaTypes {
			shared = append(shared, path.Base(sharedName(mediaType)))
		}
		return errors.Join(err, cleanRealFolder(root, d.Path, sharedDir, func(name string) (bool, error) {
			return slices.Contains(shared, name), nil
		}))
	})
}

// cleanRealFolder is cleanFolder for one of our own, in whose place there is to be nothing else.
func cleanRealFolder(root *os.Root, dir, name string, keep func(string) (bool, error)) error {
	if info, err := root.Lstat(name); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is no folder (links are not followed): remove it", filepath.Join(dir, name))
	}
	return cleanFolder(root, name, keep)
}

func (d *Dir) within(fn func(*os.Root) error) error {
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return fmt.Errorf("clean payload folders: %w", err)
	}
	defer root.Close()
	if err := fn(root); err != nil {
		return fmt.Errorf("clean payload folders: %w", err)
	}
	return nil
}

// cleanApp removes an app's payload folders but those to keep; the app's own folder too if none is, since somebody may be
// about to fill one of these.
func cleanApp(root *os.Root, name string, keep []string) error {
	err := cleanFolder(root, name, func(id string) (bool, error) { return slices.Contains(keep, id), nil })
	if err == nil && len(keep) == 0 {
		if err = root.Remove(filepath.FromSlash(name)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return err
}

// cleanFolder removes what is in a folder and not to be kept. Where there is something else than a folder (a link, for
// one, which is never followed), it removes that.
func cleanFolder(root *os.Root, name string, keep func(string) (bool, error)) error {
	info, err := root.Lstat(filepath.FromSlash(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return root.Remove(filepath.FromSlash(name))
	}
	entries, err := fs.ReadDir(root.FS(), name)
	errs := []error{err}
	for _, e := range entries {
		kept, err := keep(e.Name())
		if err == nil && !kept {
			err = root.RemoveAll(filepath.Join(filepath.FromSlash(name), e.Name()))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
