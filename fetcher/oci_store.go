package fetcher

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/internal/download"
	"github.com/nebraska/omahaclient/internal/wait"
)

// The folders of a store.
const (
	blobsDir  = "blobs/sha256" // finished blobs by their digest's hexadecimal digits, and the engine's partial files
	claimsDir = "claims"       // who needs which blob
)

// store is Job.Shared: the blobs of all images, of every release and app, each once.
//
// A claim is a file that says which blobs the image in a job's folder needs; it is written before the first of them is looked for,
// and holds as long as that folder is there. So nobody has to tell the store that a release is gone, a fetch in progress is
// safe from collect, and what an interrupted fetch has brought stays until its folder is removed. Blobs without a claim are garbage.
type store struct {
	path string
	root *os.Root // of path
}

func openStore(path string) (*store, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of shared blobs: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the folder of shared blobs: %w", err)
	}
	s := &store{path: path, root: root}
	for _, dir := range []string{blobsDir, claimsDir} {
		if err := root.MkdirAll(filepath.FromSlash(dir), 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("make the folder of shared blobs: %w", err), root.Close())
		}
	}
	return s, nil
}

func (s *store) close() { s.root.Close() }

// blobs opens the folder of the blobs.
func (s *store) blobs() (*os.Root, error) { return s.root.OpenRoot(filepath.FromSlash(blobsDir)) }

func (s *store) blobPath(d digest.Digest) string {
	return filepath.Join(s.path, filepath.FromSlash(blobsDir), d.Encoded())
}

// sealTime is the time of last modification that a blob gets once it was verified. Whoever writes to it afterwards, through whatever
// link, breaks the seal. (A record of the times beside the blobs would miss a write within the clock's tick, and be one more file.)
func sealTime() time.Time { return time.Unix(1, 0) }

// seal marks a verified blob. Where that fails it is hashed again the next time.
func seal(blobs *os.Root, d ocispec.Descriptor) {
	_ = blobs.Chtimes(d.Digest.Encoded(), sealTime(), sealTime())
}

// sealed says whether a blob was verified and is unchanged since, as far as the file system can tell.
func sealed(blobs *os.Root, d ocispec.Descriptor) bool {
	info, err := blobs.Lstat(d.Digest.Encoded())
	return err == nil && info.Mode().IsRegular() && info.Size() == d.Size && info.ModTime().Equal(sealTime())
}

// claim is what a file in claimsDir holds.
type claim struct {
	Dir     string          `json:"dir"` // the job's folder, relative to the store where that is possible: both may be moved together
	Digests []digest.Digest `json:"digests"`
}

// claim notes that the image in dir needs these blobs: beside those of the note before, as long as it is not known what the image
// is made of, else instead of them.
func (s *store) claim(ctx context.Context, dir string, digests []digest.Digest, beside bool) error {
	c := claim{Dir: s.relative(dir)}
	sum := sha256.Sum256([]byte(c.Dir))
	name := filepath.Join(claimsDir, hex.EncodeToString(sum[:16])+".json")
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	before, err := s.root.ReadFile(name)
	if beside && err == nil {
		_ = json.Unmarshal(before, &c) // a spoilt one claims nothing
	}
	c.Digests = slices.Compact(slices.Sorted(slices.Values(append(c.Digests, digests...))))
	after, err := json.Marshal(c)
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	return writeFile(s.root, name, after)
}

func (s *store) relative(dir string) string {
	from, err1 := filepath.Abs(s.path)
	to, err2 := filepath.Abs(dir)
	if rel, err := filepath.Rel(from, to); err == nil && err1 == nil && err2 == nil {
		return rel
	}
	return dir
}

// collect removes the claims of folders that are gone, and every blob without a claim.
func (s *store) collect(ctx context.Context) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	needed, err := s.claimed()
	if err != nil {
		return err
	}
	entries, err := fs.ReadDir(s.root.FS(), blobsDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		// A partial file of the engine's and its tag are named sha256-HEX.partial and .partial.tag.
		name, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), "sha256-"), ".")
		if !needed[name] {
			errs = append(errs, s.root.RemoveAll(filepath.Join(filepath.FromSlash(blobsDir), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// claimed returns the hexadecimal digits of all claimed digests.
func (s *store) claimed() (map[string]bool, error) {
	entries, err := fs.ReadDir(s.root.FS(), claimsDir)
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	var errs []error
	for _, e := range entries {
		name := filepath.Join(claimsDir, e.Name())
		content, err := s.root.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var c claim
		if json.Unmarshal(content, &c) != nil || !s.alive(c.Dir) {
			errs = append(errs, s.root.RemoveAll(name)) // a spoilt one costs a download, no more: finished images have links of their own
			continue
		}
		for _, d := range c.Digests {
			needed[d.Encoded()] = true
		}
	}
	return needed, errors.Join(errs...)
}

func (s *store) alive(dir string) bool {
	if dir == "" {
		return false
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(s.path, dir)
	}
	_, err := os.Lstat(dir)
	return !errors.Is(err, fs.ErrNotExist) // a folder that cannot be looked at now may be there again later
}

// lock waits until nobody else, in this process or another one, writes or reads claims, which takes them milliseconds.
func (s *store) lock(ctx context.Context) (unlock func(), err error) {
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		unlock, err := download.Lock(s.root, "lock")
		if !errors.Is(err, download.ErrBusy) {
			return unlock, err
		}
		if err := wait.For(ctx, delay); err != nil {
			return nil, fmt.Errorf("wait for %s: %w", filepath.Join(s.path, "lock"), err)
		}
	}
}

// writeFile replaces a file durably: who reads it sees the old content or the new.
func writeFile(root *os.Root, name string, content []byte) error {
	temp := name + ".new"
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(root.Name(), temp), err)
	}
	if err := root.Rename(temp, name); err != nil {
		return err
	}
	return download.SyncDir(root, filepath.Dir(name))
}
