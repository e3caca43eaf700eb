package fetcher

import (
	"context"
	"fmt"

	"github.com/nebraska/omahaclient/internal/download"
)

// ErrMissing: a host says that it does not have what it was asked for, or not for us (any 4xx but 408 and 429).
var ErrMissing = download.ErrMissing

// documentSpeed is the floor rate for documents, bytes per second: 64 KiB take four minutes at most.
const documentSpeed = 256

// Document reads a small file, such as a signature, as Fetch would: with the same client, Authorize, redirect rules and time
// limits (but a floor rate of 256 bytes per second at least), and at most limit bytes of it (ErrSize). It is read into memory, and
// nothing is written to disk. Nothing is verified: that is up to the caller. ErrMissing says that there is no such file.
func (h HTTP) Document(ctx context.Context, url string, limit int64) ([]byte, error) {
	client := h.Client
	if client == nil {
		client = download.NewClient()
		defer client.CloseIdleConnections()
	}
	h.MaxSize, h.Tries = limit, 2
	if h.MinSpeed >= 0 {
		h.MinSpeed = max(h.MinSpeed, documentSpeed)
	}
	b, err := download.Get(ctx, download.Job{
		URLs: []string{url}, Client: client, Authorize: h.Authorize, Logger: h.Logger, Limits: h.limits(),
	})
	if err != nil {
		return nil, fmt.Errorf("fetch document: %w", err)
	}
	return b, nil
}
