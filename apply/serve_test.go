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

// What could apply nothing costs no grant.
func TestServe_saysAtOnceThatAnAppHasNoApplier(t *testing.T) {
	fleet := func(url string, a apply.Applier) apply.Applier {
		return apply.FleetLock{URL: url, ID: "m1", Applier: a}
	}
	const manager = "http://lock.example.com"
	for _, tc := range []struct {
		name string
		a    apply.Applier
		want string
	}{
		{"nil", nil, "Applier is nil"},
		{"nil function", apply.Func(nil), "Applier is nil"},
		{"nil pointer", (*apply.Binary)(nil), "Applier is nil"},
		{"nil Mux", apply.Mux(nil), "has no Applier"},
		{"no entry in the Mux", apply.Mux{appA: nothing}, "has no Applier"},
		{"nil in the Mux", apply.Mux{appA: nothing, appB: nil}, "Applier is nil"},
		{"nil in the Mux, other case", apply.Mux{appA: nothing, strings.ToUpper(appB): nil}, "Applier is nil"},
		{"nil function in the Mux", apply.Mux{appA: nothing, appB: apply.Func(nil)}, "Applier is nil"},
		{"nil in FleetLock", fleet(manager, nil), "Applier is nil"},
		{"FleetLock without a URL", fleet("", nothing), "absolute http(s) URL"},
		{"no command", apply.Mux{appA: nothing, appB: fleet(manager, apply.Command{})}, "names no program"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0", []byte("a"))
				w.offering(appB, "2.0.0", []byte("b"))
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errDone)
				defer cancel()
				err := apply.Serve(ctx, w.client(app(appA), app(appB)), tc.a)
				wantText(t, err, tc.want)
				wantText(t, err, appB)
				want(t, "status at the server", w.instance(appB).Status, "")
			})
		})
	}
	wantText(t, apply.Serve(t.Context(), nil, nothing), "no Client")
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

// An offer that waits for its app's turn when the stream ends does not begin.
func TestServe_beginsNothingAfterTheEnd(t *testing.T) {
	for name, end := range map[string]struct {
		by   func(cancel context.CancelCauseFunc, c *omahaclient.Client)
		want error
	}{
		"of ctx":    {func(cancel context.CancelCauseFunc, _ *omahaclient.Client) { cancel(errDone) }, errDone},
		"by Close":  {func(_ context.CancelCauseFunc, c *omahaclient.Client) { c.Close() }, omahaclient.ErrClosed},
		"a restart": {func(cancel context.CancelCauseFunc, _ *omahaclient.Client) { cancel(omahaclient.ErrRestartRequired) }, omahaclient.ErrRestartRequired},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0", []byte("a"))
				c := w.client(app(appA))
				a := restorer{newStep(), make(chan struct{})}
				ctx, cancel := context.WithCancelCause(t.Context())
				done := serve(ctx, c, a)
				<-a.restoring
				<-time.After(time.Minute) // the offer has come, and waits
				want(t, "phase", c.Status()[0].Phase, omahaclient.Offered)
				end.by(cancel, c)
				wantErr(t, <-done, end.want)
				want(t, "calls of Apply", len(a.called), 0)
				want(t, "phase afterwards", c.Status()[0].Phase, omahaclient.Offered)
			})
		})
	}
}

// The restart that one app asks for is no verdict on another, whose time is over.
func TestServe_aRestartIsNoVerdictOnOtherApps(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("a"))
		w.offering(appB, "2.0.0", []byte("b"))
		c := w.client(app(appA), app(appB))
		a, b := newStep(), newStep()
		done := serve(t.Context(), c, apply.Mux{appA: a, appB: b})
		<-a.called
		<-b.called
		a.result <- apply.AskRestart(apply.RestartExit, "agent")
		wantErr(t, <-done, omahaclient.ErrRestartRequired) // after b's grace
		for _, s := range c.Status() {
			want(t, s.AppID, s.Phase, map[string]omahaclient.Phase{appA: omahaclient.RestartPending, appB: omahaclient.Offered}[s.AppID])
		}
	})
}

// Nor is one that the caller speaks of.
func TestServe_aCauseIsNoVerdict(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("a"))
		c := w.client(app(appA))
		a := newStep()
		ctx, cancel := context.WithCancelCause(t.Context())
		done := serve(ctx, c, a)
		<-a.called
		cancel(omahaclient.ErrRestartRequired)
		wantErr(t, <-done, omahaclient.ErrRestartRequired) // after the grace, whose end a returns
		want(t, "phase", c.Status()[0].Phase, omahaclient.Offered)
	})
}

// Without a logger of its own Serve speaks through the Client's.
func TestServe_logsToTheClientsLogger(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("a"))
		a := restorer{newStep(), make(chan struct{})}
		ctx, cancel := context.WithCancelCause(t.Context())
		done := serve(ctx, w.client(app(appA)), a)
		<-a.restoring
		a.restoring <- struct{}{}
		<-a.called
		a.result <- nil
		cancel(errDone)
		wantErr(t, <-done, errDone)
		wantText(t, errors.New(w.log.String()), "the engine is away")
	})
}

func TestServe_logsWhereAnApplierPanicked(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("a"))
		c := w.client(app(appA))
		err := w.served(c, apply.Func(panickingApplier), w.reached(appA, testserver.Error))
		wantErr(t, err, errDone)
		for _, text := range []string{"level=ERROR", "stack=", "panickingApplier", "serve_test.go"} {
			wantText(t, errors.New(w.log.String()), text)
		}
	})
}

func panickingApplier(context.Context, omahaclient.UpdateOffer) error { panic("oh") }
