package apply

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"github.com/nebraska/omahaclient/internal/state"
)

// tryEnv tells a program that Recover is to end it: it is executed to see whether it starts.
const tryEnv = "OMAHACLIENT_TRY"

// unpack writes the payload beside the executable, ready to take its place, and returns its digest.
func (b Binary) unpack(ctx context.Context, x executable, payload string) (digest string, err error) {
	src, err := os.Open(payload)
	if err != nil {
		return "", err
	}
	defer src.Close()
	content, err := decompressed(src)
	if err != nil {
		return "", fmt.Errorf("unpack payload: %w", err)
	}
	defer content.Close()

	info, err := os.Stat(x.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info = nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", errors.New("it is no regular file")
	}
	name := x.beside("new")
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	dst, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	err = copyLimited(ctx, io.MultiWriter(dst, sum), content, b.limit())
	if err == nil {
		err = b.dress(dst, info)
	}
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		return "", err
	}
	return named(sum), nil
}

func (b Binary) limit() int64 {
	if b.MaxSize > 0 {
		return b.MaxSize
	}
	return defaultMaxBinary
}

// dress gives f the owner and mode of the executable that it replaces; nil for none.
func (b Binary) dress(f *os.File, old fs.FileInfo) error {
	mode := b.Mode
	if mode == 0 {
		mode = 0o755
	}
	if old != nil {
		if err := copyOwner(f, old); err != nil {
			return fmt.Errorf("keep its owner: %w: run as root, or as the owner", err)
		}
		mode = old.Mode() // after the owner, whose change takes setuid away
	}
	return f.Chmod(mode)
}

// maxWindow is the most memory, in bytes, that a compressed file may have us look back on: twice what xz -9 and zstd -19 use.
const maxWindow = 128 << 20

// decompressed returns what is in src, which may be compressed.
func decompressed(src io.Reader) (io.ReadCloser, error) {
	r := bufio.NewReaderSize(src, 1<<18)
	magic, err := r.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch format := compression(magic); format {
	case "gzip":
		return gzip.NewReader(r)
	case "zstd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case "xz":
		d, err := xz.NewReader(r, maxWindow) // ulikunitz/xz, which the tests write with, allocates whatever a header asks for, up to 4 GiB
		return io.NopCloser(d), err
	default:
		return io.NopCloser(r), nil
	}
}

// compression names the format that a file's first six bytes tell; "" for none that we know.
func compression(magic []byte) string {
	for format, start := range map[string]string{"gzip": "\x1f\x8b", "zstd": "\x28\xb5\x2f\xfd", "xz": "\xfd7zXZ\x00"} {
		if len(magic) >= len(start) && string(magic[:len(start)]) == start {
			return format
		}
	}
	return ""
}

// copyLimited copies until the end of src, which must come within limit bytes.
func copyLimited(ctx context.Context, dst io.Writer, src io.Reader, limit int64) error {
	n, err := io.CopyBuffer(dst, &boundReader{ctx, io.LimitReader(src, limit+1)}, make([]byte, 1<<18))
	switch {
	case err != nil:
		return err
	case n > limit:
		return fmt.Errorf("it is larger than %d bytes: raise the limit if it may be", limit)
	case n == 0:
		return errors.New("it is empty")
	}
	return nil
}

// boundReader reads until ctx is done.
type boundReader struct {
	ctx context.Context //nolint:containedctx // a reader for the time of one call
	io.Reader
}

func (r *boundReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
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

// try executes the new file once.
func (b Binary) try(ctx context.Context, x executable, version string) error {
	if b.NoTry {
		return nil
	}
	args := b.Try
	if args == nil {
		args = []string{"--version"}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, execTime, fmt.Errorf("no exit within %v: a program that calls apply.Recover first, or "+
		"knows --version, exits at once; see Binary.Try", execTime))
	defer cancel()
	const busyTries = 50
	for n := 0; ; n++ {
		cmd := exec.CommandContext(ctx, x.beside("new"), args...) //nolint:gosec // this is the point
		cmd.Env = append(os.Environ(), tryEnv+"="+version)
		err := run(ctx, cmd)
		// Another goroutine's child may hold our file open for writing between its fork and its exec (go.dev/issue/22315).
		if !errors.Is(err, syscall.ETXTBSY) || n >= busyTries || pause(ctx, 20*time.Millisecond) != nil {
			return err
		}
	}
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
	if err := x.steps.take("link old", func() error { return linkOrCopy(x.path, next) }); err != nil {
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

// putBack makes the old executable the one in place; none, where there was none.
func (x executable) putBack() error {
	old, next := x.beside("old"), x.beside("back")
	if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
		return errors.Join(x.steps.take("remove first", func() error { return os.Remove(x.path) }), x.sync())
	}
	if err := x.steps.take("link back", func() error { return linkOrCopy(old, next) }); err != nil {
		return err
	}
	defer os.Remove(next) //nolint:errcheck // left where both are one file already
	if err := x.place("back"); err != nil {
		return err
	}
	return x.sync()
}

// linkOrCopy gives a file another name, or makes a durable copy where the file system has no hard links.
func linkOrCopy(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if os.Link(from, to) == nil {
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
	return errors.Join(err, copyOwner(dst, info), dst.Chmod(info.Mode()), dst.Sync(), dst.Close())
}

// advised adds what to do about an error of the file system.
func advised(err error) error {
	for cause, advice := range map[error]string{
		syscall.EROFS:   "the file system is read-only: mount it writable, or let systemd (ReadWritePaths=)",
		syscall.EXDEV:   "the executable is a mount of its own: replace it where it comes from",
		syscall.EBUSY:   "the executable is a mount of its own: replace it where it comes from",
		syscall.ENOSPC:  "the disk is full: old and new version must both fit",
		syscall.ETXTBSY: "another program holds it open for writing",
		fs.ErrPermission: "no permission: the program needs to write to the executable's directory, and to execute there " +
			"(no noexec mount)",
	} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %s", err, advice)
		}
	}
	return err
}
