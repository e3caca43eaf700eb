package fetcher

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nebraska/omahaclient/internal/download"
)

// HTTP fetches plain files (media type "binary") over http and https. The zero value is ready to use; HTTP is safe for
// concurrent use and may be used by value or by pointer. Its fields must not be changed after the first Fetch.
type HTTP struct {
	// Client is towards the payload hosts. Only its Transport is used: redirects are followed here (at most 10, never from https to
	// http), each download has time limits of its own, and cookies are not kept. Defaults to a client for each Fetch: HTTP/1.1 without
	// compression, TLS 1.2 at least, proxies from the environment.
	Client *http.Client
	// Authorize adds credentials for payload hosts that want them. It is called for each request, and again for each redirect
	// target; nothing that it set is inherited by another request. Look at the request's URL before you add a secret: a payload host
	// may redirect anywhere. Defaults to none.
	Authorize func(*http.Request) error
	// AllowUnverified takes payloads that were announced without any usable hash. Such a payload is fetched anew by each Fetch.
	// Defaults to refusing them (ErrNoHash).
	AllowUnverified bool

	// MaxSize is the largest payload taken, in bytes; larger ones fail with ErrSize. 0: any announced size, and 8 GiB where
	// none is announced.
	MaxSize int64
	// MinSpeed is the floor rate in bytes per second: a mirror that stays under it for 90 s counts as failed (ErrTooSlow).
	// Defaults to 10; negative: no floor.
	MinSpeed int64
	// StallTimeout is how long a mirror may send nothing before it counts as failed (ErrTooSlow). Defaults to 30 s.
	StallTimeout time.Duration
	// Tries is how many transfers in a row may fail at one mirror before the next one is taken; a received byte resets the
	// count. Defaults to 5.
	Tries int
	// RetryWait is the first wait before a mirror is tried again; it doubles with each failure up to 30 s, ± 50 %. Defaults to 500 ms.
	RetryWait time.Duration
	// Logger gets a warning for each failed try at a mirror, with the URL's credentials and query left out. Defaults to none.
	Logger *slog.Logger
}

// Fetch fetches job.Source to a file in job.Dir, and there alone. It goes on where an earlier Fetch into that folder stopped, and
// sends no request where the verified file is there already. The file's base name is Source.Name where that is a plain file
// name on every operating system, else one derived from it.
//
// A wrong size or hash makes it go on with the next mirror at once, so does a mirror that cannot be reached (it is tried again
// after the others); other failures do after a few tries. A disk that is full, or not writable, ends it. What can be resumed stays in
// job.Dir after an error.
func (h HTTP) Fetch(ctx context.Context, job Job) (Payload, error) {
	p, err := h.fetch(ctx, job)
	if err != nil {
		return Payload{}, fmt.Errorf("fetch %.200q: %w", job.Source.Name, err)
	}
	return p, nil
}

func (h HTTP) fetch(ctx context.Context, job Job) (Payload, error) {
	src := job.Source
	sha1 := src.SHA1
	if len(sha1) != 20 { // what cannot be a hash counts as absent
		sha1 = nil
	}
	if err := download.Usable(src.URLs); err != nil { // first: of an image reference, no hash is to be asked for
		if !slices.ContainsFunc(src.URLs, func(u string) bool { return strings.Contains(u, "://") }) {
			err = fmt.Errorf(`%w: if it is a container image, give the app WithPayloadType("application/vnd.oci.image"); beside an image, a file needs a full URL`, err)
		}
		return Payload{}, err
	}
	switch {
	case len(src.SHA256) != 0 && len(src.SHA256) != 32:
		return Payload{}, fmt.Errorf("%w: its SHA-256 has %d bytes, not 32: correct it on the server", ErrNoHash, len(src.SHA256))
	case len(src.SHA256) == 0 && sha1 == nil && !h.AllowUnverified:
		return Payload{}, fmt.Errorf("%w: add its SHA-256 (or SHA-1) to the package on the server, or set HTTP.AllowUnverified to take it as it comes", ErrNoHash)
	case job.Dir == "":
		return Payload{}, errors.New("no folder to put it into")
	}
	if err := os.MkdirAll(job.Dir, 0o700); err != nil {
		return Payload{}, fmt.Errorf("make its folder: %w", err)
	}
	root, err := os.OpenRoot(job.Dir)
	if err != nil {
		return Payload{}, fmt.Errorf("open its folder: %w", err)
	}
	defer root.Close()
	client := h.Client
	if client == nil {
		client = download.NewClient()
		defer client.CloseIdleConnections()
	}
	name := fileName(src.Name)
	got, err := download.Fetch(ctx, download.Job{
		Root: root, Name: name, URLs: src.URLs, Size: src.Size, SHA256: src.SHA256, SHA1: sha1,
		Client: client, Authorize: h.Authorize, Progress: job.Progress, Logger: h.Logger, Limits: h.limits(),
	})
	if err != nil {
		return Payload{}, err
	}
	return Payload{
		Name:      src.Name,
		MediaType: src.MediaType,
		Path:      filepath.Join(job.Dir, name),
		Size:      got.Size,
		Digest:    "sha256:" + hex.EncodeToString(got.SHA256[:]),
	}, nil
}

func (h HTTP) limits() download.Limits {
	return download.Limits{
		MaxSize:      h.MaxSize,
		MinSpeed:     h.MinSpeed,
		StallTimeout: h.StallTimeout,
		Tries:        h.Tries,
		RetryWait:    h.RetryWait,
	}
}
