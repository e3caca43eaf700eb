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
	"time"
)

// extraction unpacks one archive, none of whose words it trusts, into an empty folder.
type extraction struct {
	ctx  context.Context //nolint:containedctx // for the time of one call
	root *os.Root
	dir  string  // its path: root.Name is its last part alone up to Go 1.25 (go.dev/issue/73868)
	a    Archive // its limits

	packed  *counter               // bytes read
	size    int64                  // bytes written
	count   int                    // entries, and folders that none of them named
	seen    map[string]string      // folded name to the name that took it
	links   map[string]bool        // symbolic links
	folders []string               // made
	modes   map[string]fs.FileMode // of the same, which may forbid writing: for the end
}

func newExtraction(ctx context.Context, root *os.Root, dir string, limits Archive) *extraction {
	for limit, def := range map[*int]int{&limits.MaxFiles: 100_000, &limits.MaxRatio: 200, &limits.MaxDepth: 32} {
		if *limit <= 0 {
			*limit = def
		}
	}
	if limits.MaxSize <= 0 {
		limits.MaxSize = 10 << 30
	}
	return &extraction{
		ctx: ctx, root: root, dir: dir, a: limits, packed: &counter{},
		seen: map[string]string{}, links: map[string]bool{}, modes: map[string]fs.FileMode{},
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
		if err := x.another(); err != nil {
			return err
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
		if err := x.another(); err != nil {
			return err
		}
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

// another counts an entry, or a folder that none named. A name that comes again counts again: each costs time.
func (x *extraction) another() error {
	if x.count++; x.count > x.a.MaxFiles {
		return fmt.Errorf("there are more than %d files, folders and links: raise MaxFiles if there may be", x.a.MaxFiles)
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
