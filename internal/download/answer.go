package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// body is an accepted answer: the bytes that follow what the partial file holds.
type body struct {
	body   io.ReadCloser // nil: nothing follows, the partial file is whole
	length int64         // of body; -1: unknown
	all    bool          // the body is the whole blob, not a part
	framed bool          // its end is told from a cut connection
}

// open asks m for what is missing and judges the answer's headers. When it returns, the partial file ends where the body begins.
func (d *download) open(ctx context.Context, w *watch, m *mirror) (body, error) {
	header := plainHeader()
	known, err := d.ranged(m, header)
	if err != nil {
		return body{}, err
	}
	resp, err := d.ask(ctx, w, m, header)
	if err != nil {
		return body{}, err
	}
	b, err := d.accept(m, resp, known)
	if err != nil || b.body == nil {
		discard(resp)
		return b, err
	}
	w.expectBody()
	return b, nil
}

// plainHeader is what every request says of us.
func plainHeader() http.Header {
	return http.Header{"Accept-Encoding": {"identity"}, "User-Agent": {"omahaclient"}}
}

// encoded refuses an answer that is not the file's own bytes.
func encoded(resp *http.Response) error {
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") { // not shown: it can be any text
		return finalf("it sent a content encoding although none was asked for: switch that off for this file")
	}
	return nil
}

// ranged adds Range and If-Range to a request, if there is something to go on from, and returns the ETag that is known for it.
func (d *download) ranged(m *mirror, h http.Header) (etag string, err error) {
	if d.part.n == 0 {
		return "", nil
	}
	if t := d.part.readTag(); t.mirror == m.key {
		etag = t.etag
	}
	if m.whole || etag == "" && !d.sum.decisive() { // without a hash only the ETag tells that both halves are of one file
		return "", d.restart(m)
	}
	last := ""
	if d.job.Size > 0 {
		last = strconv.FormatInt(d.job.Size-1, 10)
	}
	h.Set("Range", fmt.Sprintf("bytes=%d-%s", d.part.n, last))
	// A mirror behind a balancer can have an ETag for each backend. Where a hash decides, that needs to cost one start only.
	if etag != "" && (m.restarts == 0 || !d.sum.decisive()) {
		h.Set("If-Range", etag)
		return etag, nil
	}
	return "", nil
}

// restart starts over because m cannot go on.
func (d *download) restart(m *mirror) error {
	if m.restarts++; m.restarts > maxRestarts {
		return finalf("it made us start over %d times: it needs to answer range requests, or to stay up", maxRestarts)
	}
	return d.startOver()
}

func (d *download) accept(m *mirror, resp *http.Response, known string) (body, error) {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		if err := encoded(resp); err != nil {
			return body{}, err
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return d.unsatisfied(m, resp)
	default:
		return body{}, statusError(resp)
	}
	b := body{body: resp.Body, length: resp.ContentLength, all: resp.StatusCode == http.StatusOK, framed: framed(resp)}
	etag := strong(resp.Header.Get("ETag"))
	var err error
	if b.all {
		err = d.acceptWhole(m, b)
	} else {
		err = d.acceptPart(m, &b, resp.Header.Get("Content-Range"), known != "" && etag != "" && etag != known)
	}
	if err != nil {
		return body{}, err
	}
	if d.job.Size == 0 && b.length > 0 {
		if err := d.part.room(b.length); err != nil {
			return body{}, err
		}
	}
	if t := (tag{mirror: m.key, etag: etag}); d.part.n == 0 || d.part.readTag() != t {
		d.part.writeTag(t)
	}
	return b, nil
}

// acceptWhole takes a 200: the body begins at 0.
func (d *download) acceptWhole(m *mirror, b body) error {
	switch {
	case b.length >= 0:
		if err := d.fits(b.length); err != nil {
			return err
		}
		d.total = b.length
	case b.framed || d.sum.decisive() || d.job.Size > 0:
		d.total = d.job.Size
	default:
		return finalf("it says neither how long the file is nor where it ends, and there is no hash to tell: announce the size or a hash")
	}
	if d.part.n > 0 {
		return d.restart(m)
	}
	return nil
}

// acceptPart takes a 206: the body has to begin where the partial file ends.
func (d *download) acceptPart(m *mirror, b *body, header string, changed bool) error {
	if d.part.n == 0 {
		return finalf("it sent a part although the whole file was asked for")
	}
	r, err := parseContentRange(header)
	if err != nil || r.first != d.part.n || b.length >= 0 && b.length != r.last-r.first+1 {
		m.whole = true
		return fmt.Errorf("asked for the bytes from %d on, it sent another part", d.part.n)
	}
	if changed {
		if err := d.restart(m); err != nil {
			return err
		}
		return errors.New("the file there has changed since its beginning was fetched")
	}
	if r.total >= 0 {
		if err := d.fits(r.total); err != nil {
			return err
		}
		d.total = r.total
	}
	return nil
}

// unsatisfied takes a 416: what we have is all there is, or not a part of what is there.
func (d *download) unsatisfied(m *mirror, resp *http.Response) (body, error) {
	if d.part.n == 0 {
		return body{}, statusError(resp)
	}
	if r, err := parseContentRange(resp.Header.Get("Content-Range")); err == nil {
		if err := d.fits(r.total); err != nil {
			return body{}, err
		}
		if r.total == d.part.n {
			return body{}, nil
		}
	}
	m.whole = true
	return body{}, fmt.Errorf("asked for the bytes from %d on, it says that there are none", d.part.n)
}

// fits compares the size that a mirror claims with what is announced and allowed; the partial file is not at fault here.
func (d *download) fits(size int64) error {
	switch {
	case d.job.Size > 0 && size != d.job.Size:
		return &failure{class: mismatch, err: otherSize(size, d.job.Size)}
	case size > d.job.Limits.MaxSize:
		return &failure{class: mismatch, err: tooLarge(size, d.job.Limits.MaxSize)}
	}
	return nil
}

func otherSize(is, announced int64) error {
	return fmt.Errorf("%w: it has %d bytes, announced are %d: publish the file or its size again", ErrSize, is, announced)
}

func tooLarge(is, allowed int64) error {
	return fmt.Errorf("%w: it has %d bytes, %d are allowed: raise the limit or publish a smaller file", ErrSize, is, allowed)
}

func framed(resp *http.Response) bool {
	return resp.ContentLength >= 0 || resp.ProtoMajor >= 2 || len(resp.TransferEncoding) > 0
}

// statusError says what an answer means that is neither 200 nor 206.
func statusError(resp *http.Response) error {
	code := resp.StatusCode
	err := fmt.Errorf("answer %d %s%s", code, http.StatusText(code), advice(code))
	switch {
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		if after := retryAfter(resp.Header, time.Now()); after > 0 {
			return &failure{class: busy, err: fmt.Errorf("%w (asks to wait for %v)", err, after), after: after}
		}
		return err
	case code == http.StatusRequestTimeout || code >= 500:
		return err
	}
	return &failure{class: final, err: &missing{err}}
}

// missing marks the word of a mirror that it does not have the blob, or not for us.
type missing struct{ error }

func (m *missing) Unwrap() []error { return []error{m.error, ErrMissing} }

func advice(code int) string {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return ": it wants (other) credentials, see Authorize"
	case http.StatusNotFound, http.StatusGone:
		return ": publish the file there, or correct its URL on the server"
	}
	return ""
}
