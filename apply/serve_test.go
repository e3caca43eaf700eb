package apply_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// step is an Applier's function that tells when it is called, and waits for its word.
type step struct {
	called chan omahaclient.UpdateOffer
	result chan error
}

func newStep() *step {
	return &step{make(chan omahaclient.UpdateOffer, 10), make(chan error, 10)}
}

func (s *step) Apply(ctx context.Context, o omahaclient.UpdateOffer) error {
	s.called <- o
	select {
	case err := <-s.result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func serve(ctx context.Context, c *omahaclient.Client, a apply.Applier) <-chan error {
	done := make(chan error, 1)
	go func() { done <- apply.Serve(ctx, c, a) }()
	return done
}

func TestServe_settlesWithWhatTheApplierReturns(t *testing.T) {
	for _, tc := range []struct {
		name   string
		apply  apply.Func
		status testserver.Status
		code   int
	}{
		{"nil", func(context.Context, omahaclient.UpdateOffer) error { return nil }, testserver.Complete, 0},
		{"a failure", func(context.Context, omahaclient.UpdateOffer) error { return errors.New("no") }, testserver.Error, 1},
		{"a code", func(context.Context, omahaclient.UpdateOffer) error {
			return omahaclient.WithCode(errors.New("no"), 5)
		}, testserver.Error, 5},
		{"a panic", func(context.Context, omahaclient.UpdateOffer) error { panic("oh") }, testserver.Error, 1},
		{"the end of its goroutine", func(context.Context, omahaclient.UpdateOffer) error { runtime.Goexit(); return nil }, testserver.Error, 1},
		{"a restart", func(context.Context, omahaclient.UpdateOffer) error { return omahaclient.ErrRestartRequired }, testserver.Installed, 0},
		{"its own verdict", func(_ context.Context, o omahaclient.UpdateOffer) error {
			return errors.Join(o.Ack(nil), errors.New("too late"))
		}, testserver.Complete, 0},
		{"a failure of its own that speaks of a context", func(context.Context, omahaclient.UpdateOffer) error { return context.Canceled }, testserver.Error, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0", []byte("new"))
				c := w.client(app(appA))
				err := w.served(c, apply.Mux{strings.ToLower(appA): tc.apply}, w.reached(appA, tc.status))
				wantErr(t, err, errDone)
				wantErr(t, err, c.Err())
				if tc.code != 0 {
					want(t, "code", w.instance(appA).ErrorCode, tc.code)
				}
			})
		})
	}
}

func TestServe_appliesAppsSideBySide(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("a"))
		w.offering(appB, "2.0.0", []byte("b"))
		c := w.client(app(appA), app(appB))
		a, b := newStep(), newStep()
		ctx, cancel := context.WithCancelCause(t.Context())
		done := serve(ctx, c, apply.Mux{appA: a, appB: b})
		<-a.called
		<-b.called // while a is under way
		b.result <- nil
		a.result <- nil
		must(t, w.WaitFor(t.Context(), func(*testserver.Server) bool {
			return w.reached(appA, testserver.Complete)() && w.reached(appB, testserver.Complete)()
		}))
		cancel(errDone)
		wantErr(t, <-done, errDone)
	})
}

func TestServe_graceThenAnInterruptedOfferComesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("a"))
		c := w.client(app(appA))
		a := newStep()
		ctx, cancel := context.WithCancelCause(t.Context())
		done := serve(ctx, c, a)
		want(t, "attempt", (<-a.called).Attempt, 1)
		began := time.Now()
		cancel(errDone)
		wantErr(t, <-done, errDone)
		want(t, "grace", time.Since(began), apply.DefaultGrace)
		want(t, "status", c.Status()[0].Phase, omahaclient.Offered)

		ctx, cancel = context.WithCancelCause(t.Context())
		done = serve(ctx, c, a)
		<-a.called
		cancel(errDone)
		a.result <- nil // within the grace
		wantErr(t, <-done, errDone)
		want(t, "version", c.Status()[0].Version, "2.0.0")
	})
}

func TestServe_aRealFailureWithinTheGraceIsAVerdict(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("a"))
		c := w.client(app(appA))
		a := newStep()
		ctx, cancel := context.WithCancelCause(t.Context())
		done := serve(ctx, c, a)
		<-a.called
		cancel(errDone)
		a.result <- errors.New("broken")
		wantErr(t, <-done, errDone)
		if s := c.Status()[0]; s.Phase == omahaclient.Offered || s.LastError == nil {
			t.Errorf("status %+v; want the failure", s)
		}
	})
}

func TestServe_saysAtOnceThatAnAppHasNoApplier(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		err := apply.Serve(t.Context(), w.client(app(appA), app(appB)), apply.Mux{appA: apply.Func(nil)})
		if err == nil || !strings.Contains(err.Error(), appB) {
			t.Errorf("Serve: %v; want a word about %s", err, appB)
		}
	})
}

func TestServe_endsWithTheClient(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("a"))
		c := w.client(app(appA))
		a := newStep()
		done := serve(t.Context(), c, a)
		<-a.called
		must(t, c.Close())
		wantErr(t, <-done, omahaclient.ErrClosed)
	})
}

// restorer tells when it restores, and waits for its word.
type restorer struct {
	*step

	restoring chan struct{}
}

func (r restorer) Restore(ctx context.Context, _ *omahaclient.Client, appID string) error {
	r.restoring <- struct{}{}
	select {
	case <-r.restoring:
		return errors.New("the engine is away")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func TestServe_restoresBeforeItApplies(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("a"))
		w.offering(appB, "2.0.0", []byte("b"))
		c := w.client(app(appA), app(appB))
		a, b := restorer{newStep(), make(chan struct{})}, newStep()
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- apply.Server{Logger: w.logger()}.Serve(ctx, c, apply.Mux{appA: a, appB: b}) }()
		<-a.restoring
		<-b.called // which does not wait for the other app
		<-time.After(time.Minute)
		want(t, "calls of Apply", len(a.called), 0)
		a.restoring <- struct{}{}
		<-a.called
		a.result <- nil
		b.result <- nil
		must(t, w.WaitFor(t.Context(), func(*testserver.Server) bool { return w.reached(appA, testserver.Complete)() }))
		cancel(errDone)
		wantErr(t, <-done, errDone)
		wantText(t, errors.New(w.log.String()), "the engine is away")

		ctx, cancel = context.WithCancelCause(t.Context())
		again := serve(ctx, c, apply.Mux{appA: a, appB: b})
		<-a.restoring
		cancel(errDone) // does not wait for the restoring
		wantErr(t, <-again, errDone)
	})
}
