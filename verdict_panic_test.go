package omahaclient_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/nebraska/omahaclient"
)

// A verdict that panics, and a program that goes on: the offer is still there, or it is settled.

// brokenError is what many programs have made once: a nil pointer as an error.
type brokenError struct{ text string }

func (e *brokenError) Error() string { return e.text }

func TestVerdict_panicInTheProgramsError(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		o := w.updates(c).next()
		var broken *brokenError
		want(t, "panicked", panics(func() { _ = o.Ack(broken) }), true)
		must(t, o.Ack(nil))
		w.flush(c)
		want(t, "history", w.history(appA), "granted, downloading, downloaded, complete")
	})
}

// askingError asks the client while it is read.
type askingError struct{ c *omahaclient.Client }

func (e askingError) Error() string { return e.c.Status()[0].AppID + " is broken" }

func TestVerdict_errorMayAskTheClient(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		failure := askingError{c}
		must(t, w.updates(c).next().Ack(failure))
		err := status(t, c, appA).LastError
		want(t, "last error", err.Error(), "apply "+appA+": "+appA+" is broken")
		want(t, "the very error", errors.As(err, new(askingError)), true)
	})
}

// onceBroken is a log that panics once, when it is armed.
type onceBroken struct {
	slog.Handler
	message string
	armed   *atomic.Bool
}

func (h onceBroken) Enabled(context.Context, slog.Level) bool { return true }

func (h onceBroken) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message && h.armed.CompareAndSwap(true, false) {
		panic("log")
	}
	return nil
}

func TestVerdict_panicInTheLog(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		broken := onceBroken{slog.DiscardHandler, "update complete", new(atomic.Bool)}
		c := w.client(app(appA), omahaclient.WithLogger(slog.New(broken)))
		s := w.updates(c)
		o := s.next()
		broken.armed.Store(true)
		want(t, "panicked", panics(func() { _ = o.Ack(nil) }), true)
		wantErr(t, o.Ack(nil), omahaclient.ErrSettled) // it was on disk already
		g.Publish(release(appA, "3.0.0"))
		want(t, "offered", s.next().Version, "3.0.0")
		want(t, "history", w.history(appA)[:len("granted, downloading, downloaded, complete")], "granted, downloading, downloaded, complete")
	})
}

func panics(call func()) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	call()
	return false
}
