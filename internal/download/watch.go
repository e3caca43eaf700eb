package download

import (
	"context"
	"fmt"
	"io"
	"time"
)

// watch ends a try that takes too long: it cancels the try's context, which unblocks whatever waits there. It costs a timer and no
// goroutine. Used by the download's goroutine alone.
type watch struct {
	limits Limits
	cancel context.CancelCauseFunc
	timer  *time.Timer

	began  time.Time // of the window for the floor rate, not counting pauses
	bytes  int64     // in that window
	paused time.Time
}

// newWatch returns the context of one try. stop must be called.
func newWatch(ctx context.Context, limits Limits) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watch{limits: limits, cancel: cancel}
}

func (w *watch) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.cancel(nil)
}

// expectAnswer begins the time that a request may take until its headers are in.
func (w *watch) expectAnswer() { w.expect(w.limits.AnswerTimeout, "no answer") }

// expectBody begins the watch over a body.
func (w *watch) expectBody() {
	w.expect(w.limits.StallTimeout, "no byte")
	w.began, w.bytes = time.Now(), 0
}

func (w *watch) expect(d time.Duration, missing string) {
	if w.timer != nil {
		w.timer.Stop()
	}
	cancel := w.cancel
	w.timer = time.AfterFunc(d, func() { cancel(fmt.Errorf("%w: %s for %v", ErrTooSlow, missing, d)) })
}

// pause stops the clock while the bytes at hand are dealt with: a slow disk is not the mirror's fault.
func (w *watch) pause() {
	w.timer.Stop()
	w.paused = time.Now()
}

func (w *watch) resume() {
	w.began = w.began.Add(time.Since(w.paused))
	w.timer.Reset(w.limits.StallTimeout)
}

// fill reads until buf is full, a second has passed (so that a slow transfer loses little when it is killed), or there is an error.
// Both n and err can be set.
func (w *watch) fill(r io.Reader, buf []byte) (n int, err error) {
	start := time.Now()
	for n < len(buf) {
		k, err := r.Read(buf[n:])
		n += k
		if err != nil {
			return n, err
		}
		if k == 0 {
			continue // the timer goes on
		}
		w.timer.Reset(w.limits.StallTimeout)
		now := time.Now()
		if err := w.speed(int64(k), now); err != nil {
			return n, err
		}
		if now.Sub(start) >= flushAfter {
			break
		}
	}
	return n, nil
}

// speed checks the floor rate at the end of each window.
func (w *watch) speed(n int64, now time.Time) error {
	w.bytes += n
	took := now.Sub(w.began)
	if took < w.limits.SpeedWindow {
		return nil
	}
	if tooSlow(w.bytes, took, w.limits.MinSpeed) {
		return fmt.Errorf("%w: %d bytes in %v, under the floor of %d bytes/s", ErrTooSlow, w.bytes, took.Round(time.Second), w.limits.MinSpeed)
	}
	w.began, w.bytes = now, 0
	return nil
}

func tooSlow(n int64, took time.Duration, floor int64) bool {
	return floor > 0 && float64(n) < float64(floor)*took.Seconds()
}
