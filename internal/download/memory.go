package download

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nebraska/omahaclient/internal/wait"
)

// Get reads a small blob of at most Limits.MaxSize bytes into memory, with the requests, time limits and retries of Fetch. It writes nothing
// to disk, and begins anew where a try was cut off. Of job it looks at URLs, Client, Header, Authorize, Challenge, Logger
// and Limits. Nothing is verified. Errors are Fetch's.
func Get(ctx context.Context, job Job) ([]byte, error) {
	job.Limits = job.Limits.withDefaults(0)
	d := &download{job: job, part: &partial{}}
	ms := newMirrors(job.URLs, job.Limits)
	for {
		began := time.Now()
		m, delay := ms.next(began)
		if m == nil {
			return nil, ms.err()
		}
		if err := wait.For(ctx, delay); err != nil {
			return nil, err
		}
		content, err := d.get(ctx, m)
		if err == nil {
			return content, nil
		}
		if ctx.Err() != nil {
			return nil, wait.Ended(ctx)
		}
		d.log(ctx, m, err)
		now := time.Now()
		ms.failed(m, classOf(err), 0, now.Sub(began), now) // no byte counts: none is kept
	}
}

// get asks one mirror once.
func (d *download) get(ctx context.Context, m *mirror) ([]byte, error) {
	if m.tries == 0 {
		m.pause.Reset() // its time begins now
	}
	m.tries++
	ctx, w := newWatch(ctx, d.job.Limits)
	defer w.stop()
	resp, err := d.ask(ctx, w, m, plainHeader())
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		discard(resp)
		return nil, statusError(resp)
	}
	defer resp.Body.Close()
	if err := encoded(resp); err != nil {
		return nil, err
	}
	most := d.job.Limits.MaxSize
	if resp.ContentLength > most {
		return nil, &failure{class: mismatch, err: tooLarge(resp.ContentLength, most)}
	}
	if !framed(resp) {
		return nil, finalf("it says neither how long the file is nor where it ends: serve it with a length")
	}
	w.expectBody()
	content, err := readAll(w, resp.Body, most)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	return content, err
}

// readAll reads a body that has no more than most bytes.
func readAll(w *watch, body io.Reader, most int64) ([]byte, error) {
	var content []byte
	buf := make([]byte, min(most+1, 64<<10))
	for {
		n, err := w.fill(body, buf)
		content = append(content, buf[:n]...)
		switch {
		case int64(len(content)) > most:
			return nil, &failure{class: mismatch, err: fmt.Errorf("%w: it sends more than %d bytes: publish the file again", ErrSize, most)}
		case err == io.EOF: //nolint:errorlint // as io.Reader has it: a wrapped one is a cut connection
			return content, nil
		case err != nil:
			return nil, fmt.Errorf("cut off after %d bytes: %w", len(content), err)
		}
	}
}
