package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nebraska/omahaclient/internal/state"
)

// entry unpacks one entry.
func (x *extraction) entry(e entry) error {
	if err := x.ctx.Err(); err != nil {
		return context.Cause(x.ctx)
	}
	name, err := x.name(e.name)
	if err != nil {
		return fmt.Errorf("%q: %w", e.name, err)
	}
	if name == "." && e.mode.IsDir() {
		return nil
	}
	if e.mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		return fmt.Errorf("%q is setuid or setgid, which no archive may hold", e.name)
	}
	if err := x.take(name, e.mode.IsDir()); err != nil {
		return fmt.Errorf("%q: %w", e.name, err)
	}
	if err := x.parents(path.Dir(name)); err != nil {
		return fmt.Errorf("%q: %w", e.name, err)
	}
	switch {
	case e.hard:
		err = x.hardLink(name, e.link)
	case e.mode.IsDir():
		err = x.folder(name, e.mode)
	case e.mode&fs.ModeSymlink != 0:
		err = x.symlink(name, e.link)
	case e.mode.IsRegular():
		err = x.file(name, e)
	default:
		err = fmt.Errorf("it is neither file, folder nor link (%v)", e.mode)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", e.name, err)
	}
	return nil
}

// name checks an entry's name and returns it in its shortest form.
func (x *extraction) name(name string) (string, error) {
	const longestName, longestPart = 4096, 255
	switch {
	case len(name) > longestName:
		return "", errors.New("the name is too long")
	case strings.ContainsAny(name, "\\\x00"):
		return "", errors.New("the name has a backslash or a zero in it")
	case path.IsAbs(name) || slices.Contains(strings.Split(name, "/"), ".."):
		return "", errors.New("the name leads out of the archive")
	}
	name = path.Clean(name)
	parts := strings.Split(name, "/")
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", errors.New("the name leads out of the archive")
	}
	if len(parts) > x.a.MaxDepth {
		return "", fmt.Errorf("it is more than %d folders deep: raise MaxDepth if it may be", x.a.MaxDepth)
	}
	for i, part := range parts {
		if len(part) > longestPart {
			return "", errors.New("the name is too long")
		}
		if x.links[path.Join(parts[:i]...)] && i > 0 {
			return "", errors.New("it is behind a link")
		}
	}
	return name, nil
}

// take notes that a name is used. Names that differ in case alone are one and the same for some file systems.
func (x *extraction) take(name string, folder bool) error {
	folded := strings.ToLower(strings.ToUpper(name))
	if first, ok := x.seen[folded]; ok && (first != name || !folder || !x.made(name)) {
		return fmt.Errorf("it is there already, as %q", first)
	}
	x.seen[folded] = name
	return nil
}

// made reports whether a folder is there.
func (x *extraction) made(folder string) bool { _, ok := x.modes[folder]; return ok }

// parents makes the folders above an entry that the archive did not name.
func (x *extraction) parents(dir string) error {
	if dir == "." {
		return nil
	}
	if err := x.parents(path.Dir(dir)); err != nil {
		return err
	}
	if x.seen[strings.ToLower(strings.ToUpper(dir))] == dir {
		return nil // what is no folder fails on its own
	}
	if err := errors.Join(x.another(), x.take(dir, true)); err != nil {
		return err
	}
	return x.folder(dir, 0o755)
}

// folder makes a folder. Where an archive names one several times, the last of its modes counts.
func (x *extraction) folder(name string, mode fs.FileMode) error {
	there := x.made(name)
	x.modes[name] = mode.Perm()
	if there {
		return nil
	}
	x.folders = append(x.folders, name)
	return x.root.Mkdir(filepath.FromSlash(name), 0o700)
}

func (x *extraction) symlink(name, target string) error {
	if err := insideLink(name, target); err != nil {
		return err
	}
	x.links[name] = true
	return x.root.Symlink(filepath.FromSlash(target), filepath.FromSlash(name))
}

// insideLink reports a symbolic link that may lead out of the archive. Its own folder is no link (name sees to that), so
// that leading ".." go where they seem to; behind a name they may not, since that may be a link.
func insideLink(name, target string) error {
	up, down := 0, false
	if target == "" || len(target) > longestLink || path.IsAbs(target) || strings.ContainsAny(target, "\\\x00:") {
		return fmt.Errorf("it links to %.100q, which may be outside of the archive", target)
	}
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			down = true
		case down:
			return fmt.Errorf("it links to %.100q, which may be outside of the archive", target)
		default:
			up++
		}
	}
	if up > strings.Count(name, "/") {
		return fmt.Errorf("it links to %.100q, which is outside of the archive", target)
	}
	return nil
}

func (x *extraction) hardLink(name, target string) error {
	clean, err := x.name(target)
	if err != nil {
		return fmt.Errorf("it links to %.100q: %w", target, err)
	}
	info, err := x.root.Lstat(filepath.FromSlash(clean))
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is a hard link to %q, which is no file", target)
	}
	return x.root.Link(filepath.FromSlash(clean), filepath.FromSlash(name))
}

func (x *extraction) file(name string, e entry) error {
	src, err := e.open()
	if err != nil {
		return err
	}
	defer src.Close()
	local := filepath.FromSlash(name)
	dst, err := x.root.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, &inflated{x: x, r: src})
	if err == nil {
		err = dst.Chmod(e.mode.Perm())
	}
	if err = errors.Join(err, x.a.steps.syncFile(dst), dst.Close()); err != nil || e.mtime.IsZero() {
		return err
	}
	return x.root.Chtimes(local, e.mtime, e.mtime)
}

// sync gives the folders their modes, and makes all names durable.
func (x *extraction) sync() error {
	for _, name := range slices.Backward(x.folders) {
		if err := x.root.Chmod(filepath.FromSlash(name), x.modes[name]|0o700); err != nil {
			return err
		}
		if err := x.syncFolder(name); err != nil {
			return err
		}
	}
	return x.syncFolder(".")
}

func (x *extraction) syncFolder(name string) error {
	return x.a.steps.take("sync folder", func() error { return state.SyncDir(filepath.Join(x.dir, filepath.FromSlash(name))) })
}
