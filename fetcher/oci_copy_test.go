package fetcher_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
)

// tap is a file without an end, whose first bytes make the caller leave.
type tap struct{ leave func() }

func (r tap) Read(p []byte) (int, error) {
	r.leave()
	return len(p), nil
}

// Where blobs are copied, not linked, that can take minutes: it ends with ctx.
func TestOCI_copyingEndsWithCtx(t *testing.T) {
	gone := errors.New("the program has left")
	ctx, leave := context.WithCancelCause(t.Context())
	err := fetcher.CopyVerified(ctx, io.Discard, tap{func() { leave(gone) }}, digestA)
	if !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}
