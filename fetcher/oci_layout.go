package fetcher

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"crypto/sha256"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/internal/download"
)

// layoutName is the OCI layout's folder in Job.Dir.
const layoutName = "image"

// layout is an OCI image layout (OCI image specification 1.1, "Image Layout").
//
// Its blobs are hard links to the store's. A layout that only referred to the store would need tools that know about that, and
// the collection of garbage would have to be exact; a link makes the layout an ordinary one, costs no space, and keeps its blob whatever
// becomes of the store. Where no link can be made (another file system, one without hard links) the blob is copied.
type layout struct {
	path string
	root *os.Root
	link func(from, to string) error
}

func openLayout(dir string, link func(from, to string) error) (*layout, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the image's folder: %w", err)
	}
	parent, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the image's folder: %w", err)
	}
	defer parent.Close()
	if err := parent.MkdirAll(filepath.Join(layoutName, filepath.FromSlash(blobsDir)), 0o700); err != nil {
		return nil, fmt.Errorf("make the image's layout: %w: remove what is in the way", err)
	}
	root, err := parent.OpenRoot(layoutName)
	if err != nil {
		return nil, fmt.Errorf("open the image's layout: %w", err)
	}
	return &layout{path: filepath.Join(dir, layoutName), root: root, link: link}, nil
}

func (l *layout) close() { l.root.Close() }

// finished says whether the layout has been completed before.
func (l *layout) finished() bool {
	_, err := l.root.Lstat(ocispec.ImageIndexFile)
	return err == nil
}

func blobName(d digest.Digest) string {
	return filepath.Join(filepath.FromSlash(blobsDir), d.Encoded())
}

// giveBack links blobs that the store has lost from the layout to the store, where they are verified like every other. What fails
// here is fetched.
func (l *layout) giveBack(s *store, digests []digest.Digest) {
	for _, d := range digests {
		if info, err := l.root.Lstat(blobName(d)); err != nil || !info.Mode().IsRegular() {
			continue
		}
		_ = l.link(filepath.Join(l.path, blobName(d)), s.blobPath(d))
	}
}

// assemble makes the layout hold exactly these blobs, which are in the store and verified, and then its index.json, which says top. As
// long as a blob is missing or spoilt there is no index.json: a reader sees the whole image or none.
func (l *layout) assemble(ctx context.Context, s *store, digests []digest.Digest, top ocispec.Descriptor) error {
	var missing []digest.Digest
	for _, d := range digests {
		if !l.holds(ctx, s, d) {
			missing = append(missing, d)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	index, err := indexOf(top)
	if err != nil {
		return err
	}
	before, err := l.root.ReadFile(ocispec.ImageIndexFile)
	if err == nil && len(missing) == 0 && bytes.Equal(before, index) {
		return nil
	}
	if err := l.root.RemoveAll(ocispec.ImageIndexFile); err != nil {
		return fmt.Errorf("remove the old index.json: %w", err)
	}
	for _, d := range missing {
		if err := l.take(ctx, s, d); err != nil {
			return fmt.Errorf("put blob %s into the layout: %w", d, err)
		}
	}
	if err := errors.Join(l.removeOthers(digests), download.SyncDir(l.root, filepath.FromSlash(blobsDir))); err != nil {
		return fmt.Errorf("tidy the layout: %w", err)
	}
	version, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return errors.Join(writeFile(l.root, ocispec.ImageLayoutFile, version), writeFile(l.root, ocispec.ImageIndexFile, index))
}

// indexOf is an index.json with one entry, the digest that was pinned.
func indexOf(top ocispec.Descriptor) ([]byte, error) {
	return json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{top},
	})
}

// holds says whether the layout has the blob: as a link to the verified one, or as a copy, which is hashed.
func (l *layout) holds(ctx context.Context, s *store, d digest.Digest) bool {
	info, err := l.root.Lstat(blobName(d))
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	if shared, err := os.Lstat(s.blobPath(d)); err == nil && os.SameFile(info, shared) {
		return true
	}
	f, err := l.root.Open(blobName(d))
	if err != nil {
		return false
	}
	defer f.Close()
	return copyVerified(ctx, io.Discard, f, d) == nil
}

// take links or copies a blob from the store.
func (l *layout) take(ctx context.Context, s *store, d digest.Digest) error {
	if err := l.root.RemoveAll(blobName(d)); err != nil {
		return err
	}
	linkErr := l.link(s.blobPath(d), filepath.Join(l.path, blobName(d)))
	if linkErr == nil {
		return nil
	}
	from, err := os.Open(s.blobPath(d))
	if err != nil {
		return errors.Join(linkErr, err)
	}
	defer from.Close()
	temp := blobName(d) + ".new"
	to, err := l.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return errors.Join(linkErr, err)
	}
	if err := errors.Join(copyVerified(ctx, to, from, d), to.Sync(), to.Close()); err != nil {
		return errors.Join(linkErr, err, l.root.Remove(temp))
	}
	return l.root.Rename(temp, blobName(d))
}

func copyVerified(ctx context.Context, to io.Writer, from io.Reader, d digest.Digest) error {
	h := sha256.New()
	if _, err := io.CopyBuffer(io.MultiWriter(to, h), endingReader{ctx, from}, make([]byte, 256<<10)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != d.Encoded() {
		return fmt.Errorf("%w: got sha256 %s on disk, it must be %s", ErrDigest, got, d.Encoded())
	}
	return nil
}

// endingReader is a file whose reading ends with ctx.
type endingReader struct {
	ctx  context.Context //nolint:containedctx // of one copy
	file io.Reader
}

func (r endingReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.file.Read(p)
}

// removeOthers removes blobs of an earlier image, and what a crash left.
func (l *layout) removeOthers(digests []digest.Digest) error {
	wanted := make(map[string]bool, len(digests))
	for _, d := range digests {
		wanted[d.Encoded()] = true
	}
	entries, err := fs.ReadDir(l.root.FS(), blobsDir)
	errs := []error{err}
	for _, e := range entries {
		if !wanted[e.Name()] {
			errs = append(errs, l.root.RemoveAll(filepath.Join(filepath.FromSlash(blobsDir), e.Name())))
		}
	}
	return errors.Join(errs...)
}
