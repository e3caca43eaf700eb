package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/nebraska/omahaclient/internal/wait"
)

// run completes the partial file and verifies it.
func (d *download) run(ctx context.Context) error {
	ms := newMirrors(d.job.URLs, d.job.Limits)
	whole, err := d.load(ctx)
	if whole || err != nil {
		return err
	}
	for {
		began := time.Now()
		m, delay := ms.next(began)
		if m == nil {
			return ms.err()
		}
		if err := wait.For(ctx, delay); err != nil {
			return err
		}
		before := d.received
		err := d.try(ctx, m)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return wait.Ended(ctx)
		}
		f := classOf(err)
		if f.class == fatal {
			return f.err
		}
		d.log(ctx, m, err)
		now := time.Now()
		ms.failed(m, f, d.received-before, now.Sub(began), now)
	}
}

// load takes up what an earlier fetch left, and says whether that is all there is to do.
func (d *download) load(ctx context.Context) (whole bool, err error) {
	d.total = d.job.Size
	n, err := d.hash(ctx, io.NewSectionReader(d.part.f, 0, 1<<62), d.job.Limits.MaxSize)
	if err != nil {
		return false, local(fmt.Errorf("read %s: %w", pathIn(d.job.Root, d.part.name), err))
	}
	d.part.n = n
	switch {
	case n == 0:
		return false, nil
	case d.sum.decisive() && d.sum.check() == nil && (d.job.Size == 0 || n == d.job.Size):
		d.size = n
		d.progress(n)
		return true, nil
	case d.job.Size > 0 && n >= d.job.Size, n > d.job.Limits.MaxSize:
		return false, d.startOver()
	}
	d.progress(n)
	return false, nil
}

// startOver throws away what is there.
func (d *download) startOver() error {
	d.sum.reset()
	return d.part.reset()
}

// try asks one mirror once; nil means that the blob is whole and right.
func (d *download) try(ctx context.Context, m *mirror) error {
	if m.tries == 0 {
		m.pause.Reset() // its time begins now
	}
	m.tries++
	ctx, w := newWatch(ctx, d.job.Limits)
	defer w.stop()
	if d.job.Size > 0 {
		if err := d.part.room(d.job.Size - d.part.n); err != nil {
			return err
		}
	}
	r, err := d.open(ctx, w, m)
	if err != nil {
		return err
	}
	from := d.part.n
	if r.body != nil {
		err = d.receive(ctx, w, r)
		r.body.Close()
	}
	if err == nil {
		err = d.verify(m, from > 0)
	}
	var f *failure
	if errors.As(err, &f) && f.class == mismatch && f.discard {
		if err := d.startOver(); err != nil {
			return err
		}
	}
	return err
}

// verify judges the whole blob. Where its beginning came from another try, m may not be to blame: it may begin anew, once.
func (d *download) verify(m *mirror, mixed bool) error {
	err := d.sum.check()
	if err == nil {
		d.size = d.part.n
		return nil
	}
	if mixed && !m.cleared {
		m.cleared = true
		if err := d.startOver(); err != nil {
			return err
		}
		return fmt.Errorf("the parts do not make a whole: %w", err)
	}
	return &failure{class: mismatch, err: err, discard: true}
}

func (d *download) log(ctx context.Context, m *mirror, err error) {
	if d.job.Logger != nil {
		d.job.Logger.LogAttrs(ctx, slog.LevelWarn, "download try failed", slog.String("url", m.label), slog.Int("try", m.tries),
			slog.Int64("bytes", d.part.n), slog.String("error", err.Error()))
	}
}
