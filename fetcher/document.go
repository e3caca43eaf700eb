package fetcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nebraska/omahaclient/internal/download"
)

// ErrMissing: a host says that it does not have what it was asked for, or not for us (any 4xx but 408 and 429).
var ErrMissing = download.ErrMissing

// documentSpeed is the floor rate for documents, bytes per second: 64 KiB take four minutes at most.
const documentSpeed = 256

// Document reads a small file, such as a signature, as Fetch would: with the same client, Authorize, redirect rules and time
// limits (but a floor rate of 256 bytes per second at least), and at most limit bytes of it (ErrSize). Nothing is verified: that is up
// to the caller. dir is a folder that it may work in;
// nothing stays there. ErrMissing says that there is no such file.
func (h HTTP) Document(ctx context.Context, dir, url string, limit int64) ([]byte, error) {
	b, err := h.document(ctx, dir, url, limit)
	if err != nil {
		return nil, fmt.Errorf("fetch document: %w", err)
	}
	return b, nil
}

func (h HTTP) document(ctx context.Context, dir, url string, limit int64) (_ []byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	own, err := os.MkdirTemp(dir, "document-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(own)) }()
	h.AllowUnverified, h.MaxSize = true, limit
	if h.MinSpeed >= 0 {
		h.MinSpeed = max(h.MinSpeed, documentSpeed)
	}
	h.Tries = 2
	p, err := h.fetch(ctx, Job{Source: Source{Name: "document", URLs: []string{url}}, Dir: own, Progress: func(int64, int64) {}})
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Clean(p.Path))
}
