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
	"strings"
)

const (
	payloadsDir = "payloads"
	sharedDir   = "shared"
)

// folder is the part of a payload folder's path that belongs to the app: made of nothing but the app's id.
func folder(appID string) string {
	sum := sha256.Sum256([]byte(appID))
	return path.Join(payloadsDir, hex.EncodeToString(sum[:8]))
}

// PayloadDir returns the folder of the app's release with this identity (hexadecimal), creating it.
func (d *Dir) PayloadDir(appID, identity, payload string) (string, error) {
	return d.mkdir(path.Join(folder(appID), identity, payload))
}

// SharedDir returns the folder that all payloads of a media type share, creating it.
func (d *Dir) SharedDir(mediaType string) (string, error) {
	sum := sha256.Sum256([]byte(mediaType))
	return d.mkdir(path.Join(sharedDir, hex.EncodeToString(sum[:8])))
}

func (d *Dir) mkdir(name string) (string, error) {
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return "", fmt.Errorf("make payload folder: %w", err)
	}
	defer root.Close() //nolint:errcheck // nothing was written through it
	if err := root.MkdirAll(filepath.FromSlash(name), 0o700); err != nil {
		return "", fmt.Errorf("make payload folder: %w", err)
	}
	return filepath.Join(d.Path, filepath.FromSlash(name)), nil
}

// Clean removes the app's payload folders but those of the identities in keep.
func (d *Dir) Clean(appID string, keep []string) error {
	return d.within(func(root *os.Root) error { return cleanFolder(root, folder(appID), keep) })
}

// CleanAll removes every payload folder that no record in the journal keeps: what apps left that are gone.
func (d *Dir) CleanAll() error {
	keep := map[string][]string{}
	for _, id := range d.Journal.IDs() {
		keep[path.Base(folder(id))] = d.Journal.Get(id).Keeps()
	}
	return d.within(func(root *os.Root) error {
		apps, err := entries(root, payloadsDir)
		for _, app := range apps {
			err = errors.Join(err, cleanFolder(root, path.Join(payloadsDir, app), keep[app]))
		}
		return err
	})
}

func (d *Dir) within(fn func(*os.Root) error) error {
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return fmt.Errorf("clean payload folders: %w", err)
	}
	defer root.Close() //nolint:errcheck // nothing was written through it
	if err := fn(root); err != nil {
		return fmt.Errorf("clean payload folders: %w", err)
	}
	return nil
}

func cleanFolder(root *os.Root, name string, keep []string) error {
	ids, err := entries(root, name)
	kept := 0
	for _, id := range ids {
		if slices.Contains(keep, id) {
			kept++
			continue
		}
		err = errors.Join(err, root.RemoveAll(filepath.FromSlash(path.Join(name, id))))
	}
	if kept == 0 && len(keep) == 0 && err == nil { // else somebody may be about to fill it
		if err = root.Remove(filepath.FromSlash(name)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return err
}

func entries(root *os.Root, name string) ([]string, error) {
	list, err := fs.ReadDir(root.FS(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}
