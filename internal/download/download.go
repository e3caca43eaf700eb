// Package download moves one blob from one of several URLs to one file: ranged, resumable, verified.
//
// It is the engine under files and image blobs alike, and knows neither: a blob is a name in a folder, some URLs, and what is
// known of its size and hashes. One goroutine, the caller's, does all the work: it fills a large buffer from the socket, writes
// it, hashes it. What was fetched survives failures, cancellation and kill -9 in a partial file that is named by what it must
// become; the next Fetch hashes it again and asks for the rest only.
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/nebraska/omahaclient/internal/wait"
)

// Job is one download. Root, Name and URLs are required; of SHA256 and SHA1 only the better one is used.
type Job struct {
	Root   *os.Root // the folder: nothing outside of it is read or written
	Name   string   // the finished file's base name in Root; must not end in .partial or .tag
	URLs   []string // mirrors, best first; http or https
	Size   int64    // bytes; 0: unknown
	SHA256 []byte   // 32 bytes, or nil
	SHA1   []byte   // 20 bytes, or nil; without either nothing is verified but the size

	Client    *http.Client               // only its Transport is used; required (see NewClient)
	Header    http.Header                // sent to every host, redirect targets included: no secrets; may be nil
	Authorize func(*http.Request) error  // adds credentials; called for each request anew, redirect targets included; may be nil
	Challenge func(*http.Response) error // told of a 401; after nil the request is authorized and sent once more; may be nil

	Progress func(done, total int64) // bytes present so far, after each write; total 0 while unknown; may be nil
	Logger   *slog.Logger            // a line for each failed try; may be nil
	Limits   Limits                  // zero fields mean the defaults

	faults faults // for tests: injected faults of the disk
}

// Result is a finished download.
type Result struct {
	Size     int64    // bytes of the file
	SHA256   [32]byte // of the file
	Received int64    // body bytes that came over the network for it, discarded ones included
}

// Fetch makes Root/Name the blob that job describes. A file that is there already and matches is hashed again and returned without
// a request (where there is no hash to match, it is fetched anew). Otherwise the partial file is completed from the mirrors, synced and renamed.
//
// Errors wrap ErrSize, ErrDigest, ErrTooSlow, ErrNoSpace or the context's error; everything else is a failed transfer. The
// partial file stays for the next Fetch, but not after a mismatch. Two fetches of one blob in one Root exclude each other: the second
// one fails at once with ErrBusy. Different blobs can be fetched side by side.
func Fetch(ctx context.Context, job Job) (Result, error) {
	if err := job.check(); err != nil {
		return Result{}, err
	}
	job.Limits = job.Limits.withDefaults(job.Size)
	if job.Size > job.Limits.MaxSize {
		return Result{}, tooLarge(job.Size, job.Limits.MaxSize)
	}
	d := &download{job: job, buf: make([]byte, job.bufferSize()), sum: newDigests(job.SHA256, job.SHA1)}
	if done, err := d.existing(ctx); done || err != nil {
		return d.result(), err
	}
	var err error
	if d.part, err = openPartial(job.Root, job.identity(), job.faults); err != nil {
		return Result{}, err
	}
	defer d.part.close()
	if done, err := d.existing(ctx); done || err != nil { // another fetch may have finished it meanwhile
		return d.result(), err
	}
	if err = d.run(ctx); err != nil {
		return d.result(), err
	}
	return d.result(), d.part.finish(job.Name)
}

// download is the state of one Fetch; its goroutine alone uses it.
type download struct {
	job      Job
	buf      []byte
	sum      *digests
	part     *partial
	size     int64 // of the finished file
	total    int64 // as far as known: announced, or said by a mirror; else 0
	received int64
}

func (j *Job) check() error {
	switch {
	case j.Root == nil || j.Client == nil:
		return errors.New("download: no folder or no client")
	case j.Name != filepath.Base(j.Name) || !filepath.IsLocal(j.Name) || j.Name == "." || isInternal(j.Name):
		return fmt.Errorf("download: %q cannot name the finished file", j.Name)
	case j.Size < 0:
		return fmt.Errorf("%w: %d bytes are announced: correct the size on the server", ErrSize, j.Size)
	case len(j.SHA256) != 0 && len(j.SHA256) != 32:
		return fmt.Errorf("%w: the announced SHA-256 has %d bytes, not 32: correct it on the server", ErrDigest, len(j.SHA256))
	case len(j.SHA1) != 0 && len(j.SHA1) != 20:
		return fmt.Errorf("%w: the announced SHA-1 has %d bytes, not 20: correct it on the server", ErrDigest, len(j.SHA1))
	}
	return nil
}

func (j *Job) bufferSize() int64 {
	if j.Size > 0 {
		return min(j.Limits.BufferSize, j.Size+1)
	}
	return min(j.Limits.BufferSize, j.Limits.MaxSize+1)
}

// existing says whether the finished file is there already. One that does not match is removed.
func (d *download) existing(ctx context.Context) (bool, error) {
	if !d.sum.decisive() {
		return false, nil
	}
	f, err := openPlain(d.job.Root, d.job.Name)
	if f == nil {
		return false, err
	}
	defer f.Close()
	n, err := d.hash(ctx, f, d.job.Size)
	if err != nil {
		return false, local(fmt.Errorf("read %s: %w", pathIn(d.job.Root, d.job.Name), err))
	}
	if (d.job.Size == 0 || n == d.job.Size) && d.sum.check() == nil {
		d.size, d.total = n, n
		d.progress(n)
		return true, nil
	}
	d.sum.reset()
	f.Close() // Windows removes no open file
	if err := d.job.Root.Remove(d.job.Name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, local(fmt.Errorf("remove the spoilt %s: %w", pathIn(d.job.Root, d.job.Name), err))
	}
	return false, nil
}

// hash feeds what f holds to d.sum and returns how much that was; it gives up early on a file that is longer than limit (0: none).
func (d *download) hash(ctx context.Context, f io.Reader, limit int64) (n int64, err error) {
	d.sum.reset()
	for {
		if ctx.Err() != nil {
			return n, wait.Ended(ctx)
		}
		k, err := io.ReadFull(f, d.buf)
		d.sum.write(d.buf[:k])
		n += int64(k)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), limit > 0 && n > limit:
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

func (d *download) progress(done int64) {
	if d.job.Progress != nil {
		d.job.Progress(done, d.total)
	}
}

func (d *download) result() Result {
	return Result{Size: d.size, SHA256: d.sum.sha256sum(), Received: d.received}
}

func pathIn(root *os.Root, name string) string { return filepath.Join(root.Name(), name) }

// isInternal tells the names that the engine uses for itself.
func isInternal(name string) bool {
	name = strings.ToLower(name) // some file systems do not tell letter case apart
	return strings.HasSuffix(name, partialSuffix) || strings.HasSuffix(name, tagSuffix)
}
