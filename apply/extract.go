package apply

import (
	"archive/tar"
	"archive/zip"
	"bufio"
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
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

// extraction unpacks one archive, none of whose words it trusts, into an empty folder.
type extraction struct {
	ctx  context.Context //nolint:containedctx // for the time of one call
	root *os.Root
	a    Archive // its limits

	packed  *counter          // bytes read
	size    int64             // bytes written
	seen    map[string]string // folded name to the name that took it
	links   map[string]bool   // symbolic links
	folders []string          // made, with "."
	made    map[string]bool   // the same
	last    []laterMode       // modes of folders, which may forbid writing
}

type laterMode struct {
	name string
	mode fs.FileMode
}

func newExtraction(ctx context.Context, root *os.Root, limits Archive) *extraction {
	for limit, def := range map[*int]int{&limits.MaxFiles: 100_000, &limits.MaxRatio: 200, &limits.MaxDepth: 32} {
		if *limit <= 0 {
			*limit = def
		}
	}
	if limits.MaxSize <= 0 {
		limits.MaxSize = 10 << 30
	}
	return &extraction{
		ctx: ctx, root: root, a: limits, packed: &counter{},
		seen: map[string]string{}, links: map[string]bool{}, folders: []string{"."}, made: map[string]bool{},
	}
}

// entry is one of an archive, in the words of both formats.
type entry struct {
	name  string
	mode  fs.FileMode // with its type
	link  string      // of symbolic and hard links
	hard  bool        // a hard link
	mtime time.Time
	open  func() (io.ReadCloser, error)
}

func (x *extraction) extract(archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil {
		return fmt.Errorf("it is no archive: %w", err)
	}
	if string(magic) == "PK\x03\x04" || string(magic) == "PK\x05\x06" {
		return x.zip(f, info.Size())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	x.packed.r = f
	content, err := decompressed(x.packed)
	if err != nil {
		return err
	}
	defer content.Close()
	return x.tar(content)
}

func (x *extraction) tar(content io.Reader) error {
	const longestHeaders = 1 << 20 // archive/tar's own limit
	r := tar.NewReader(&inflated{x: x, r: bufio.NewReader(content), slack: longestHeaders})
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			if len(x.seen) == 0 {
				return errors.New("it is empty")
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		e := entry{name: h.Name, mode: h.FileInfo().Mode(), link: h.Linkname, mtime: h.ModTime}
		e.open = func() (io.ReadCloser, error) { return io.NopCloser(r), nil }
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeGNUSparse:
		case tar.TypeLink:
			e.hard = true
		case tar.TypeXGlobalHeader:
			continue
		default:
			return fmt.Errorf("%q is neither file, folder nor link (type %q)", h.Name, h.Typeflag)
		}
		if err := x.entry(e); err != nil {
			return err
		}
	}
}

func (x *extraction) zip(f io.ReaderAt, size int64) error {
	r, err := zip.NewReader(f, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // we look at the names ourselves
		return fmt.Errorf("read zip: %w", err)
	}
	if len(r.File) == 0 {
		return errors.New("it is empty")
	}
	x.packed.n = size
	for _, zf := range r.File {
		e := entry{name: zf.Name, mode: zf.Mode(), mtime: zf.Modified, open: zf.Open}
		if e.mode&fs.ModeSymlink != 0 {
			if e.link, err = zippedLink(zf); err != nil {
				return fmt.Errorf("link %q: %w", zf.Name, err)
			}
		}
		if err := x.entry(e); err != nil {
			return err
		}
	}
	return nil
}

const longestLink = 4096

// zippedLink reads a symbolic link's target, which zip keeps as the content of a file.
func zippedLink(zf *zip.File) (string, error) {
	r, err := zf.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	target, err := io.ReadAll(io.LimitReader(r, longestLink+1))
	return string(target), err
}

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
	if first, ok := x.seen[folded]; ok && (first != name || !folder || !x.made[name]) {
		return fmt.Errorf("it is there already, as %q", first)
	}
	x.seen[folded] = name
	if len(x.seen) > x.a.MaxFiles {
		return fmt.Errorf("there are more than %d files, folders and links: raise MaxFiles if there may be", x.a.MaxFiles)
	}
	return nil
}

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
	if err := x.take(dir, true); err != nil {
		return err
	}
	return x.folder(dir, 0o755)
}

func (x *extraction) folder(name string, mode fs.FileMode) error {
	x.last = append(x.last, laterMode{name, mode.Perm()})
	if x.made[name] {
		return nil
	}
	x.made[name] = true
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
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil || e.mtime.IsZero() {
		return err
	}
	return x.root.Chtimes(local, e.mtime, e.mtime)
}

// sync gives the folders their modes, and makes all names durable.
func (x *extraction) sync() error {
	for _, m := range slices.Backward(x.last) {
		if err := x.root.Chmod(filepath.FromSlash(m.name), m.mode|0o700); err != nil {
			return err
		}
	}
	for _, name := range slices.Backward(x.folders) {
		if err := state.SyncDir(filepath.Join(x.root.Name(), filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	return nil
}

// inflated reads what was unpacked, within the limits.
type inflated struct {
	x     *extraction
	r     io.Reader
	slack int64 // more for each file, of what is no file's content
}

func (i *inflated) Read(p []byte) (int, error) {
	x := i.x
	if x.ctx.Err() != nil {
		return 0, context.Cause(x.ctx)
	}
	n, err := i.r.Read(p)
	if i.slack == 0 {
		x.size += int64(n)
	} else {
		x.packed.through += int64(n)
	}
	const ratioFrom = 16 << 20
	switch most := max(x.size, x.packed.through); {
	case x.size > x.a.MaxSize || x.packed.through > x.a.MaxSize+i.slack*int64(len(x.seen)+1):
		return n, fmt.Errorf("it is larger than %d bytes: raise MaxSize if it may be", x.a.MaxSize)
	case most > ratioFrom && most/int64(x.a.MaxRatio) > x.packed.n:
		return n, fmt.Errorf("it is more than %d times larger than its archive: raise MaxRatio if it may be", x.a.MaxRatio)
	}
	return n, err
}

// counter counts what is read.
type counter struct {
	r       io.Reader
	n       int64
	through int64 // bytes of a tar, headers included
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
