package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/pool"
)

// DefaultGrace is how long an update being applied may go on after the end of Serve's ctx.
const DefaultGrace = 30 * time.Second

// Serve ranges over client.Updates(ctx), applies each offer (apps side by side, one at a time per app) and settles it,
// exactly once: with the Applier's error, or with what it panicked with. It returns client.Err() when the stream has
// closed and no Applier runs any more; at once, with what is wrong, where an app has no Applier, or one that could apply nothing.
//
// When ctx ends, no update begins any more, and those that are being applied get DefaultGrace to finish; then the ctx that their
// Applier got ends too. An Applier that fails because of that leaves its offer unsettled: it comes again with the next stream.
//
// Where an update asks for a restart by a way of its own (Binary.Restart), Serve ends the stream, lets the other apps'
// updates finish, and restarts the program or returns an error that is omahaclient.ErrRestartRequired.
//
// What is no verdict is logged: what could not be put right or resumed, the stack of a panic, a verdict that could not be
// written to disk.
func Serve(ctx context.Context, client *omahaclient.Client, a Applier) error {
	return Server{}.Serve(ctx, client, a)
}

// Server is Serve with settings. The zero Server is what Serve uses.
type Server struct {
	Grace  time.Duration // for updates being applied when ctx ends; 0: DefaultGrace, below 0: none
	Logger *slog.Logger  // nil: the Client's (omahaclient.WithLogger)
}

// Serve is as the function of that name.
func (s Server) Serve(ctx context.Context, client *omahaclient.Client, a Applier) error {
	if err := s.complete(client, a); err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	applying, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)

	run := &serving{Server: s, client: client, applier: a, streaming: ctx, applying: applying, end: end, turns: map[string]turn{}}
	for _, app := range client.Status() {
		turn := run.turn(app.AppID)
		turn <- struct{}{}                                      // before the first offer can take it
		run.resuming.Go(func() { run.resume(app.AppID, turn) }) //nolint:contextcheck // it has the stream's
	}
	run.resuming.Go(run.releaseForgotten)
	for offer := range client.Updates(ctx) {
		turn := run.turn(offer.AppID)
		run.work.Go(func() { //nolint:contextcheck // an Applier has its grace
			turn <- struct{}{}
			defer turn.end()
			run.one(offer)
		})
	}
	end(omahaclient.ErrClosed) // the stream may have ended by Close: nothing is to begin, or to be resumed, any more
	grace := time.AfterFunc(max(s.Grace, 0), func() { stop(endOf(ctx)) })
	run.work.Wait()
	grace.Stop()
	run.resuming.Wait()
	if r := run.restart; r != nil {
		return r.restart(client) //nolint:contextcheck // Close has a time limit of its own
	}
	return client.Err()
}

// complete fills in the defaults, and finds what would fail each update.
func (s *Server) complete(client *omahaclient.Client, a Applier) error {
	if client == nil {
		return errors.New("serve updates: there is no Client")
	}
	if s.Grace == 0 {
		s.Grace = DefaultGrace
	}
	if s.Logger == nil {
		s.Logger = client.Logger()
	}
	var errs []error
	for _, app := range client.Status() {
		if err := check(a, app.AppID); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// serving is a Serve under way.
type serving struct {
	Server

	client    *omahaclient.Client
	applier   Applier
	streaming context.Context //nolint:containedctx // Serve's own, for as long as it runs
	applying  context.Context //nolint:containedctx // what Appliers get: streaming and the grace
	end       context.CancelCauseFunc
	turns     map[string]turn // by app; Serve's goroutine alone uses the map
	work      sync.WaitGroup  // offers
	resuming  sync.WaitGroup

	mu      sync.Mutex // guards restart
	restart *restartError
}

// turn is held by what works on an app, one at a time, by having sent to it.
type turn chan struct{}

func (t turn) end() { <-t }

func (s *serving) turn(appID string) turn {
	if s.turns[appID] == nil {
		s.turns[appID] = make(turn, 1)
	}
	return s.turns[appID]
}

// one applies one offer and settles it.
func (s *serving) one(offer omahaclient.UpdateOffer) {
	if s.streaming.Err() != nil { // it has waited for its turn until after the end
		s.comesAgain(offer, context.Cause(s.streaming))
		return
	}
	settled := false
	defer func() {
		if !settled { // by runtime.Goexit in the Applier: safely cannot return
			s.settle(offer, errors.New("the Applier ended its goroutine"))
		}
	}()
	ctx := context.WithValue(s.applying, streamingKey{}, s.streaming)
	err := safely(func() error { return s.applier.Apply(ctx, offer) })
	settled = true
	s.panicked(offer.AppID, err)
	if s.interrupted(err) {
		s.comesAgain(offer, err)
		return
	}
	s.settle(offer, err)
}

func (s *serving) comesAgain(offer omahaclient.UpdateOffer, err error) {
	s.Logger.Info("update interrupted, it comes again", "app_id", offer.AppID, "version", offer.Version, "error", err)
}

// interrupted reports whether an Applier failed because ctx ended.
func (s *serving) interrupted(err error) bool {
	switch {
	case err == nil || errors.Is(err, omahaclient.ErrRestartRequired) || s.streaming.Err() == nil:
		return false
	case s.applying.Err() != nil:
		return true // whatever it says: killed children do not speak of contexts
	default:
		return errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(s.streaming))
	}
}

func (s *serving) settle(offer omahaclient.UpdateOffer, verdict error) {
	err := offer.Ack(verdict)
	if err != nil && !errors.Is(err, omahaclient.ErrSettled) { // by the Applier itself
		s.Logger.Error("verdict not on disk", "app_id", offer.AppID, "version", offer.Version, "verdict", verdict, "error", err)
	}
	s.note(verdict)
}

// note ends the stream where err asks for the program's restart.
func (s *serving) note(err error) {
	var r *restartError
	if !errors.As(err, &r) || r.how == RestartByUser {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.restart == nil {
		s.restart = r
	}
	s.end(errRestarting)
}

// errRestarting ends the stream. It is no omahaclient.ErrRestartRequired: as the cause of an Applier's end it must not become that one's verdict.
var errRestarting = errors.New("the program is about to restart")

// resume lets the app's Applier put right, and then end, what an earlier process of the program began. It has the turn.
func (s *serving) resume(appID string, turn turn) {
	err := safely(func() error {
		defer turn.end()
		return restore(s.streaming, s.applier, s.client, appID)
	})
	s.panicked(appID, err)
	if err != nil && s.streaming.Err() == nil {
		s.Logger.Error("what a crash left", "app_id", appID, "error", err)
	}
	ctx := context.WithValue(s.streaming, resumingKey{}, &resuming{turn, s.Logger})
	err = safely(func() error { return resume(ctx, s.applier, s.client, appID) })
	s.panicked(appID, err)
	if err != nil && s.streaming.Err() == nil {
		s.Logger.Warn("update resumed after a restart", "app_id", appID, "error", err)
	}
	s.note(err)
}

// panicked logs where an Applier, or what it called, has panicked: the verdict says with what alone.
func (s *serving) panicked(appID string, err error) {
	var p *pool.PanicError
	if errors.As(err, &p) {
		s.Logger.Error("panic while an update was applied", "app_id", appID, "panic", fmt.Sprint(p.Value), "stack", string(p.Stack))
	}
}

// endOf returns why ctx has ended, nil where it has not. It never asks for a restart, as a caller's cause may: what an Applier returns
// because of that would be a verdict.
func endOf(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, omahaclient.ErrRestartRequired) {
		return ctx.Err()
	}
	return cause
}

// streamingKey is of the stream's context in the ctx that Apply gets.
type streamingKey struct{}

// beginning returns the context for what an Apply does before it begins to change anything: that gets no grace.
func beginning(ctx context.Context) context.Context {
	if streaming, ok := ctx.Value(streamingKey{}).(context.Context); ok {
		return streaming
	}
	return ctx
}

// resuming is what Serve gives to a Resume of ours, in its ctx.
type resuming struct {
	turn turn // the app's
	log  *slog.Logger
}

type resumingKey struct{}

// inTurn calls fn, of a Resume, while no offer of the app is being applied and none begins to be; not at all when ctx ends
// before that.
func inTurn(ctx context.Context, fn func()) {
	if r, ok := ctx.Value(resumingKey{}).(*resuming); ok {
		select {
		case r.turn <- struct{}{}:
			defer r.turn.end()
		case <-ctx.Done():
			return
		}
	}
	fn()
}

// resumeLogger returns the logger for a Resume.
func resumeLogger(ctx context.Context, client *omahaclient.Client) *slog.Logger {
	if r, ok := ctx.Value(resumingKey{}).(*resuming); ok {
		return r.log
	}
	return client.Logger()
}
