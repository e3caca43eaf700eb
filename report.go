package omahaclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
)

// report makes the report of something that happened to the app.
func (c *Client) report(a *app, t omaha.EventType, result omaha.EventResult, previous, next, session string, now time.Time) state.Report {
	c.mu.Lock()
	version := a.current
	c.mu.Unlock()
	return state.Report{
		Type: int(t), Result: int(result), Previous: previous, Next: next,
		Version: version, Channel: a.channel, Session: session, At: now,
	}
}

// complete reports success: 3/1, but 3/2 for Flatcar's own app, of which Nebraska only logs a 3/1.
func (c *Client) complete(a *app, previous, next, session string, now time.Time) state.Report {
	result := omaha.EventResultSuccess
	if strings.Trim(a.key, "{}") == omaha.FlatcarAppID { // Omaha's ids may stand in braces
		result = omaha.EventResultSuccessReboot
	}
	return c.report(a, omaha.EventTypeUpdateComplete, result, previous, next, session, now)
}

// failure reports a failure: 3/0 with a code.
func (c *Client) failure(a *app, previous, next, session string, code omaha.ExitCode, now time.Time) state.Report {
	r := c.report(a, omaha.EventTypeUpdateComplete, omaha.EventResultError, previous, next, session, now)
	r.Code = int(code)
	return r
}

// refused reports whether a transition was refused altogether, and not merely kept from the disk.
func refused(err error) bool {
	return errors.Is(err, state.ErrTransition) || errors.Is(err, state.ErrClosed)
}

func event(r state.Report) omaha.Event {
	return omaha.Event{
		Type: omaha.EventType(r.Type), Result: omaha.EventResult(r.Result), ErrorCode: omaha.ExitCode(r.Code),
		PreviousVersion: r.Previous, NextVersion: r.Next,
	}
}

// maxEventVersion bounds a version in an event of the program's own, as package omaha bounds an offered one.
const maxEventVersion = 256

// SendEvent reports an event of the program's own for the app. The event is on disk before anything is sent; SendEvent then
// waits until the server has it, or ctx ends: the event stays queued, and is delivered like every other report. Where the disk cannot be
// written it stands in memory; if it is not delivered from there either, the error says so too. A refusal
// by the server is returned as an *Error. At most 48 events of an app wait for a server that cannot be reached: the next one
// is refused with ErrOutboxFull, and those that wait are not dropped. While an update is open (fetched, offered, waiting for a restart) a final event
// (type 3) is refused: settle the offer instead. An app's events arrive in the order of their sending. Nebraska acts on few
// events, and acknowledges and drops every other.
func (c *Client) SendEvent(ctx context.Context, appID string, ev omaha.Event) error {
	apps, err := c.find([]string{appID})
	if err != nil {
		return err
	}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if most := max(len(ev.PreviousVersion), len(ev.NextVersion)); most > maxEventVersion {
		return fmt.Errorf("send event: a version has %d bytes, %d are allowed: the server would refuse it, and all that waits behind it", most, maxEventVersion)
	}
	a := apps[0]
	now := time.Now()
	r := c.report(a, ev.Type, ev.Result, ev.PreviousVersion, ev.NextVersion, c.sessionOf(a), now)
	r.Code = int(ev.ErrorCode)
	var sent uint64
	err = c.journal.Do(a.key, func(rec *state.App) error {
		if err := rec.Send(r); err != nil {
			return err
		}
		sent = rec.Outbox[len(rec.Outbox)-1].Seq
		return nil
	})
	switch {
	case errors.Is(err, state.ErrFull):
		return fmt.Errorf("send event: %w: app %s: %w for a server that has not taken them: send fewer, or this one again later", ErrOutboxFull, a.id, state.ErrFull)
	case errors.Is(err, state.ErrTransition):
		return fmt.Errorf("send event: app %s has an update open, which a final event (type 3) would end behind its back: settle the offer instead: %w", a.id, err)
	case refused(err):
		return fmt.Errorf("send event: %w", closedOr(err))
	case err != nil: // it stands in memory, as verdicts do
		c.noteUnwritten(a, err)
		err = fmt.Errorf("send event: app %s: it is not on disk: %w", a.id, err)
	}
	if undelivered := c.deliver(ctx, map[*app]goal{a: {sent, sent}}, false); undelivered != nil {
		return errors.Join(undelivered, err)
	}
	return nil
}

func (c *Client) sessionOf(a *app) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.session == "" {
		a.session = omaha.NewID()
	}
	return a.session
}

// Flush waits until every recorded report is delivered, or ctx ends, and tries at once, with backoff. Reports that the
// server refuses for good (an app that it does not know) are returned as *Error and stay queued; those that it has not acknowledged for a
// day, although it answers, are returned as *Error too, and dropped.
func (c *Client) Flush(ctx context.Context) error {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return c.deliver(ctx, c.queued(c.reporting()), false)
}

// reporting lists the apps with reports to deliver, those that are leaving included.
func (c *Client) reporting() []*app {
	c.mu.Lock()
	defer c.mu.Unlock()
	var apps []*app
	for _, a := range c.apps {
		if len(c.journal.Get(a.key).Outbox) > 0 {
			apps = append(apps, a)
		}
	}
	return append(apps, c.leavingApps()...)
}

// goal is what is to be delivered of an app's reports, by their numbers.
type goal struct{ first, last uint64 }

// queued is all that the apps have to report now.
func (c *Client) queued(apps []*app) map[*app]goal {
	goals := map[*app]goal{}
	for _, a := range apps {
		if out := c.journal.Get(a.key).Outbox; len(out) > 0 {
			goals[a] = goal{out[0].Seq, out[len(out)-1].Seq}
		}
	}
	return goals
}

// deliver sends the apps' reports until all up to the goals are delivered or refused. With once it tries once.
func (c *Client) deliver(ctx context.Context, goals map[*app]goal, once bool) error {
	tries := newFailures(c.cfg.schedule)
	for began := time.Now(); ; {
		left := c.undelivered(goals)
		if len(left) == 0 {
			return c.givenUp(goals)
		}
		now := time.Now()
		_, err := c.visitAll(ctx, left, func(a *app) (visit, bool) {
			// Another contact may have delivered them while this one waited, or have failed: all who wait share the tries.
			return visit{app: a}, len(c.undelivered(map[*app]goal{a: goals[a]})) > 0 && a.failures.tryNow(began, now)
		})
		if err != nil {
			return err
		}
		left = c.undelivered(goals)
		open, refusals := c.refusals(left)
		switch {
		case len(left) == 0:
			return c.givenUp(goals)
		case !open || once:
			return refusals
		}
		if err := c.awaitTry(ctx, left, time.Now().Add(tries.next())); err != nil {
			return err
		}
	}
}

// awaitTry waits until one of the apps may be tried again (at next, if nothing is known to have failed), or the reports of one are no
// longer what they were.
func (c *Client) awaitTry(ctx context.Context, apps []*app, next time.Time) error {
	queued := make([]uint64, len(apps))
	for i, a := range apps {
		queued[i] = c.firstQueued(a)
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.mu.Lock()
		change, now := c.change, time.Now()
		wait := c.cfg.schedule.mean()
		for i, a := range apps {
			if a.failures == nil {
				wait = min(wait, next.Sub(now))
			} else {
				wait = min(wait, a.failures.left(now))
			}
			if c.firstQueued(a) != queued[i] {
				wait = 0
			}
		}
		c.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-change:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// firstQueued numbers the report that the app's next contact begins with; 0 for none.
func (c *Client) firstQueued(a *app) uint64 {
	if out := c.journal.Get(a.key).Outbox; len(out) > 0 {
		return out[0].Seq
	}
	return 0
}

// givenUp is the error for reports that will never be delivered.
func (c *Client) givenUp(goals map[*app]goal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for a, g := range goals {
		if g.first <= a.givenUp && a.givenUp <= g.last {
			errs = append(errs, &Error{Op: "report", AppID: a.id, Code: omaha.CodeOf(errUntaken), Err: errUntaken})
		}
	}
	return errors.Join(errs...)
}

// undelivered returns the apps that still have reports up to their goal.
func (c *Client) undelivered(goals map[*app]goal) []*app {
	var left []*app
	for a, g := range goals {
		if out := c.journal.Get(a.key).Outbox; len(out) > 0 && out[0].Seq <= g.last {
			left = append(left, a)
		}
	}
	return left
}

// refusals joins why the apps' reports are not delivered, and reports whether another try could deliver any of them.
func (c *Client) refusals(apps []*app) (open bool, joined error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, a := range apps {
		switch {
		case a.refusal != nil:
			errs = append(errs, a.refusal)
		case a.failures != nil:
			errs = append(errs, &Error{Op: "report", AppID: a.id, Code: omaha.CodeOf(a.failures.last), Err: a.failures.last})
			open = true
		default:
			open = true
		}
	}
	return open, errors.Join(errs...)
}
