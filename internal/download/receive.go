package download

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// receive moves a body into the partial file; nil means that the blob has its full length.
func (d *download) receive(ctx context.Context, w *watch, b body) error {
	most := d.job.Size
	if most == 0 {
		most = d.job.Limits.MaxSize
	}
	end := int64(-1) // where the body ends, if it says so
	if b.length >= 0 {
		end = d.part.n + b.length
	}
	for {
		n, err := w.fill(b.body, d.buf[:min(int64(len(d.buf)), most+1-d.part.n)])
		d.received += int64(n)
		if n > 0 {
			w.pause()
			if e := d.keep(d.buf[:n], most, end); e != nil {
				return e
			}
			w.resume()
		}
		if err != nil {
			return d.ended(ctx, err, b)
		}
	}
}

// keep writes what came in.
func (d *download) keep(p []byte, most, end int64) error {
	if d.part.n+int64(len(p)) > most {
		return &failure{class: mismatch, discard: true, err: fmt.Errorf("%w: it sends more than %d bytes: publish the file or its size again", ErrSize, most)}
	}
	if d.job.Size == 0 && end < 0 { // nobody knows how much there is to come
		if err := d.part.room(int64(len(p))); err != nil {
			return err
		}
	}
	n, err := d.part.write(p)
	d.sum.write(p[:n])
	if err != nil {
		return err
	}
	d.progress(d.part.n)
	return nil
}

// ended judges how a body came to its end.
func (d *download) ended(ctx context.Context, err error, b body) error {
	n := d.part.n
	switch whole := d.job.Size; {
	case n == whole && whole > 0: // a cut after the last byte does not matter
		return nil
	case !errors.Is(err, io.EOF):
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("cut off after %d bytes: %w", n, err)
	case whole == 0 && (d.total == 0 || n == d.total):
		d.total = n
		return nil
	case whole > 0 && b.all && b.framed: // it ended by itself
		return &failure{class: mismatch, discard: true, err: otherSize(n, whole)}
	}
	return fmt.Errorf("cut off after %d bytes: %w", n, io.ErrUnexpectedEOF)
}
