package download

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

const (
	partialSuffix = ".partial"
	tagSuffix     = ".tag"
)

// faults replaces calls to the disk, so that tests can make them fail. A nil field is the real thing.
type faults struct {
	write func(f *os.File, p []byte, off int64) (int, error)
	free  func(f *os.File) (int64, error)
}

// partial is a blob on its way: an open, locked file. Its lock dies with its process.
type partial struct {
	root   *os.Root
	name   string
	f      *os.File
	n      int64 // bytes that are in the file, and in the hash
	faults faults
}

// openPartial opens or makes the partial file of a blob, and locks it. What was planted there instead of a file of our own is removed.
func openPartial(root *os.Root, identity string, with faults) (*partial, error) {
	p := &partial{root: root, name: identity + partialSuffix, faults: with}
	busy := ErrBusy
	for range 10 { // another fetch can finish its file, or make one, between any two steps here
		f, err := openOrMake(root, p.name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // or the folder is gone
			busy = err
			continue
		case errors.Is(err, fs.ErrExist), errors.Is(err, errChanging):
			continue
		case err != nil:
			return nil, local(err)
		}
		if err := lock(f); err != nil {
			f.Close()
			return nil, local(fmt.Errorf("lock %s: %w: wait for that one (%w)", pathIn(root, p.name), ErrBusy, err))
		}
		if isAt(root, p.name, f) { // what is locked is still the partial file, not a finished one
			_ = f.Chmod(0o600) // where it was loosened by hand; a file system without modes is fine
			p.f = f
			return p, nil
		}
		f.Close()
	}
	return nil, local(fmt.Errorf("open %s: %w", pathIn(root, p.name), busy))
}

func openOrMake(root *os.Root, name string) (*os.File, error) {
	f, err := openPlain(root, name)
	if f != nil || err != nil {
		return f, err
	}
	f, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w: let this user write to that folder", pathIn(root, name), err)
	}
	return f, nil
}

var errChanging = errors.New("somebody is changing that folder")

// isAt says whether name in root is the open file f, and no link to it.
func isAt(root *os.Root, name string, f *os.File) bool {
	there, err := root.Lstat(name)
	if err != nil {
		return false
	}
	opened, err := f.Stat()
	return err == nil && os.SameFile(there, opened)
}

// openPlain opens a file for reading and writing; nil where there is none. Only a plain file with a single name, or one that is
// only read, is taken for one of ours: writing through a link would spoil what it leads to.
func openPlain(root *os.Root, name string) (*os.File, error) {
	before, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, local(fmt.Errorf("look at %s: %w", pathIn(root, name), err))
	}
	internal := isInternal(name)
	if !before.Mode().IsRegular() || internal && linked(before) {
		if err := root.Remove(name); err != nil {
			return nil, local(fmt.Errorf("remove %s, which is no plain file: %w: remove it by hand", pathIn(root, name), err))
		}
		return nil, nil
	}
	flag := os.O_RDONLY
	if internal {
		flag = os.O_RDWR
	}
	f, err := root.OpenFile(name, flag, 0)
	if err != nil {
		return nil, local(fmt.Errorf("open %s: %w: let this user read and write it", pathIn(root, name), err))
	}
	if !isAt(root, name, f) {
		f.Close()
		return nil, local(fmt.Errorf("open %s: %w", pathIn(root, name), errChanging))
	}
	return f, nil
}

// write appends b. What could be written stays, and counts.
func (p *partial) write(b []byte) (int, error) {
	write := p.faults.write
	if write == nil {
		write = (*os.File).WriteAt
	}
	n, err := write(p.f, b, p.n)
	p.n += int64(n)
	if err != nil {
		err = p.writeError(err)
	}
	return n, err
}

func (p *partial) writeError(err error) error {
	path := pathIn(p.root, p.name)
	if isFull(err) {
		return local(fmt.Errorf("%w: write %s: %w (%d bytes are there and kept): free some space, the next try goes on from there", ErrNoSpace, path, err, p.n))
	}
	return local(fmt.Errorf("write %s: %w", path, err))
}

// reset empties the file.
func (p *partial) reset() error {
	p.n = 0
	p.dropTag()
	if err := p.f.Truncate(0); err != nil {
		return local(fmt.Errorf("empty %s: %w", pathIn(p.root, p.name), err))
	}
	return nil
}

// room checks that the disk has space for need more bytes and some to spare.
func (p *partial) room(need int64) error {
	free := p.faults.free
	if free == nil {
		free = freeSpace
	}
	have, err := free(p.f)
	if err == nil && have >= 0 && have < need+spareSpace { // where nobody can tell, the write will
		return local(noRoom(p.root.Name(), need, have))
	}
	return nil
}

// Room says whether the disk that holds root has space for need more bytes and some to spare (ErrNoSpace): for those who are to
// fetch several blobs. Where nobody can tell, it has.
func Room(root *os.Root, need int64) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	have, err := freeSpace(dir)
	if err == nil && have >= 0 && have-spareSpace < need {
		return noRoom(root.Name(), need, have)
	}
	return nil
}

func noRoom(dir string, need, have int64) error {
	return fmt.Errorf("%w: %s needs %d more bytes and %d to spare, %d are free: free %d bytes there",
		ErrNoSpace, dir, need, spareSpace, have, need+spareSpace-have)
}

// finish makes the partial file the finished one, durably.
func (p *partial) finish(name string) error {
	if err := p.f.Sync(); err != nil {
		return p.writeError(err)
	}
	// Renamed while it is locked: a fetch that waits for the lock must find that this is no partial file any more.
	if err := p.root.Rename(p.name, name); err != nil {
		return local(fmt.Errorf("rename %s to %s: %w: remove what is in the way", pathIn(p.root, p.name), name, err))
	}
	p.dropTag()
	if err := syncDir(p.root); err != nil {
		return local(fmt.Errorf("sync %s: %w", p.root.Name(), err))
	}
	return nil
}

// close leaves the partial file to the next fetch, or removes it where there is nothing in it.
func (p *partial) close() {
	defer p.f.Close() // removed while it is locked, so that it is nobody else's
	info, err := p.f.Stat()
	if err == nil && info.Size() == 0 && isAt(p.root, p.name, p.f) {
		_ = p.root.Remove(p.name) // at worst an empty file is left
		p.dropTag()
	}
}

// Lock takes the lock that the file name in root stands for, for this process and against all others, or fails at once with ErrBusy. It
// dies with the process. File systems without locks let everybody in.
func Lock(root *os.Root, name string) (unlock func(), err error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w (%w)", pathIn(root, name), ErrBusy, err)
	}
	return func() { f.Close() }, nil
}

// SyncDir makes new names in the folder dir of root durable.
func SyncDir(root *os.Root, dir string) error {
	sub, err := root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer sub.Close()
	return syncDir(sub)
}

// Present returns how many bytes a Fetch of a blob would find: of the finished file name, or of the partial file for a SHA-256 in
// hexadecimal digits. Nothing is verified.
func Present(root *os.Root, name, sha256 string) int64 {
	if info, err := root.Lstat(name); err == nil {
		return info.Size()
	}
	if info, err := root.Lstat("sha256-" + sha256 + partialSuffix); err == nil {
		return info.Size()
	}
	return 0
}
