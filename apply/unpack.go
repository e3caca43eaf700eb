package apply

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

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
	if err = errors.Join(err, x.steps.syncFile(dst), dst.Close()); err != nil {
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
