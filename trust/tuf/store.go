package tuf

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// store is one app's folder. metadata is go-tuf's cache. roots has each root that followed the pinned one, by version: the chain is
// verified again each time, so what is on disk is never the authority, and a program with another repository's root starts afresh.
type store struct {
	metadata, roots string
	root            []byte         // the newest of the chain
	received        map[int][]byte // roots from the repository, by version, verified or not
	log             *slog.Logger
}

func openStore(dir string, pinned []byte, log *slog.Logger) (*store, error) {
	if dir == "" {
		return nil, errors.New("open the cached metadata: the claim names no folder")
	}
	s := &store{metadata: filepath.Join(dir, "metadata"), roots: filepath.Join(dir, "roots"), received: map[int][]byte{}, log: log}
	for _, d := range []string{s.metadata, s.roots} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open the cached metadata: %w", err)
		}
	}
	if err := s.tidy(); err != nil {
		return nil, fmt.Errorf("open the cached metadata: %w", err)
	}
	var err error
	if s.root, err = s.follow(pinned); err != nil {
		return nil, fmt.Errorf("open the cached roots: %w", err)
	}
	return s, nil
}

// follow walks from the pinned root to the newest one that each before it vouches for.
func (s *store) follow(pinned []byte) ([]byte, error) {
	newest := pinned
	chain, err := trustedmetadata.New(pinned)
	if err != nil {
		return nil, err
	}
	for {
		path := s.rootPath(int(chain.Root.Signed.Version) + 1)
		next, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return newest, nil
		}
		if err != nil {
			return nil, err
		}
		err = safely(func() error { _, err := chain.UpdateRoot(next); return err })
		if err != nil {
			return newest, s.setAside(path, err)
		}
		newest = next
	}
}

func (s *store) rootPath(version int) string {
	return filepath.Join(s.roots, strconv.Itoa(version)+".root.json")
}

// watch keeps the roots that pass by. They come first; a role that is named like one of them comes later.
func (s *store) watch(get download) download {
	roots := true
	return func(path string, limit int64) ([]byte, error) {
		data, err := get(path, limit)
		name, isRoot := strings.CutSuffix(path[strings.LastIndexByte(path, '/')+1:], ".root.json")
		version, numErr := strconv.Atoi(name)
		if roots = roots && isRoot && numErr == nil; roots && err == nil {
			s.received[version] = data
		}
		return data, err
	}
}

// tidy removes what go-tuf left half-written and sets aside what it would stumble over.
func (s *store) tidy() error {
	entries, err := os.ReadDir(s.metadata)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(s.metadata, entry.Name())
		if strings.HasPrefix(entry.Name(), "tuf_tmp") {
			err = errors.Join(err, os.Remove(path))
		}
		if filepath.Ext(path) != ".json" {
			continue
		}
		data, readErr := os.ReadFile(path)
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		if damage := safely(func() error { return readable(entry.Name(), data) }); damage != nil {
			err = errors.Join(err, s.setAside(path, damage))
		}
	}
	return err
}

// readable is whether go-tuf can work with a file of its cache. Signatures, versions and times are looked at later.
func readable(name string, data []byte) error {
	switch name {
	case "root.json": // written anew each time
		return nil
	case "timestamp.json":
		m, err := metadata.Timestamp().FromBytes(data)
		if err == nil && m.Signed.Meta["snapshot.json"] == nil {
			return errors.New("it names no snapshot")
		}
		return err
	case "snapshot.json":
		m, err := metadata.Snapshot().FromBytes(data)
		if err != nil {
			return err
		}
		for role, info := range m.Signed.Meta {
			if info == nil {
				return fmt.Errorf("it says nothing about %s", role)
			}
		}
		return nil
	}
	_, err := metadata.Targets().FromBytes(data)
	return err
}

func (s *store) setAside(path string, damage error) error {
	s.log.Warn("a cached file of TUF metadata is damaged: it is set aside and fetched again",
		slog.String("path", path), slog.Any("error", damage))
	return os.Rename(path, path+".damaged")
}

// keep makes what was verified durable and private: the roots up to a version, and go-tuf's files, which are neither.
func (s *store) keep(newest int64) error {
	for version, data := range s.received {
		if int64(version) > newest {
			continue
		}
		path := s.rootPath(version)
		err := os.WriteFile(path+".new", data, 0o600)
		if err == nil {
			err = harden(path + ".new")
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			return fmt.Errorf("keep root %d: %w", version, err)
		}
	}
	entries, err := os.ReadDir(s.metadata)
	for _, entry := range entries {
		err = errors.Join(err, harden(filepath.Join(s.metadata, entry.Name())))
	}
	return errors.Join(err, syncFolder(s.roots), syncFolder(s.metadata))
}

// harden makes a file private and syncs it, unless both has been done: go-tuf leaves others' right to read behind.
func harden(path string) error {
	info, err := os.Stat(path)
	if err != nil || (info.Mode().Perm() == 0o600 && !strings.HasSuffix(path, ".new")) {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Sync(), f.Close())
}

// syncFolder makes renames durable, where folders can be synced.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
