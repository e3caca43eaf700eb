package omahaclient

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
)

// answered acts on the server's answer for one app.
func (c *Client) answered(v *visit, sent []state.Report, answer omaha.AppResponse) {
	a, now := v.app, time.Now()
	delivered := min(answer.Delivered, len(sent))
	if delivered > 0 {
		c.delivered(a, sent[:delivered])
	}
	if c.note(v, now, answer.Err, delivered, len(sent)-delivered) && now.Sub(sent[0].At) > patience {
		c.giveUp(a, sent[0])
	}
	switch {
	case v.check:
		c.decide(v, answer, now)
	case isFault(answer.Err):
		v.err = &Error{Op: "check", AppID: a.id, Code: omaha.CodeOf(answer.Err), Err: answer.Err}
	}
}

// delivered strikes out what the server has taken.
func (c *Client) delivered(a *app, sent []state.Report) {
	seqs := make([]uint64, len(sent))
	for i, r := range sent {
		seqs[i] = r.Seq
		c.cfg.logger.Debug("report delivered", "app_id", a.id, "event_type", r.Type, "event_result", r.Result)
	}
	if err := c.journal.Do(a.key, func(rec *state.App) error { return rec.Delivered(seqs...) }); err != nil {
		c.cfg.logger.Error("delivered reports cannot be struck out on disk, they may arrive twice", "app_id", a.id, "error", err)
	}
	c.clean(a)
}

// clean removes the payloads that the app needs no more.
func (c *Client) clean(a *app) {
	rec := c.journal.Get(a.key)
	if err := c.dir.Clean(a.key, rec.Keeps()); err != nil {
		c.cfg.logger.Warn("payloads left behind", "app_id", a.id, "error", err)
	}
	if rec.Update == nil { // one that is under way goes to the same place in the end
		c.collect()
	}
	c.forgetCopies()
}

// patience is how long a report is sent again to a server that answers, and does not acknowledge it.
const patience = 24 * time.Hour

// giveUp drops a report that the server has kept from acknowledging for too long: with it, the server would keep back all reports
// behind it, and every check.
func (c *Client) giveUp(a *app, r state.Report) {
	c.cfg.logger.Error("report given up: the server answers, but has not acknowledged it for a day", "app_id", a.id, "event_type", r.Type,
		"event_result", r.Result, "since", r.At)
	c.mu.Lock()
	a.givenUp, a.untaken = r.Seq, 0
	c.mu.Unlock()
	c.noteUnwritten(a, c.journal.Do(a.key, func(rec *state.App) error { return rec.Delivered(r.Seq) }))
}

// note remembers how the contact went, and reports whether the server has failed again and again to acknowledge anything. delivered
// counts the reports that it took, untaken those that it did not.
func (c *Client) note(v *visit, now time.Time, err error, delivered, untaken int) (stuck bool) {
	a := v.app
	c.mu.Lock()
	defer c.mu.Unlock()
	if !isFault(err) {
		a.solo = false
		if v.ping || v.check {
			a.answered = now.Round(0)
			a.lastPing = now.Round(0) // by the wall clock: the other one stands still while the machine sleeps
		}
	}
	a.refusal = nil
	if delivered > 0 || untaken == 0 {
		a.untaken = 0
	}
	switch {
	case untaken == 0:
		a.failures = nil
	case isFault(err) && v.check:
		a.failures = nil // it may be the check alone that is refused: the reports are tried once more by themselves
	case isFault(err):
		a.failures = nil
		a.refusal = &Error{Op: "report", AppID: a.id, Code: omaha.CodeOf(err), Err: err}
	default:
		c.count(a, errUntaken)
		if delivered == 0 {
			a.untaken++
		}
	}
	return a.untaken >= untakenOften
}

// untakenOften is how many answers in a row acknowledge nothing before that is taken for the server's way.
const untakenOften = 3

var errUntaken = errors.New("the server did not acknowledge an event")

// count notes one more failed contact in a row; that several of its requests can fail does not matter. mu is held.
func (c *Client) count(a *app, err error) {
	if a.failures == nil {
		a.failures = newFailures(c.cfg.schedule)
	}
	a.failures.last, a.failures.counted = err, false
}

// postponeChecks keeps the server's wish for the next check, across restarts. Whichever apps it was asked about, it is one server: all
// keep to it.
func (c *Client) postponeChecks(visits []*visit, until time.Time) {
	c.mu.Lock()
	apps := slices.Clone(c.apps)
	c.mu.Unlock()
	for _, v := range visits {
		if v.app.leaving {
			apps = append(apps, v.app)
		}
	}
	var writes sync.WaitGroup // the journal writes what comes together at once
	for _, a := range apps {
		writes.Go(func() {
			if err := c.journal.Do(a.key, func(rec *state.App) error { return rec.Postpone(until) }); err != nil {
				c.cfg.logger.Error("server-asked delay cannot be written", "app_id", a.id, "error", err)
			}
		})
	}
	writes.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, a := range apps {
		if !a.busy { // the others are planned when they are let go
			a.once = false // as in begin
			c.planCheck(a, c.journal.Get(a.key), now)
			c.enqueue(a)
		}
	}
	c.changed()
}

// unanswered notes that the server's answer leaves the app out even when it is asked about it alone.
func (c *Client) unanswered(v *visit) {
	if v.err == nil {
		v.err = &Error{Op: "check", AppID: v.app.id, Code: omaha.ExitResponseInvalid, Err: omaha.ErrMissingApp}
	}
	c.plan(v.app, func() { c.count(v.app, v.err) })
	c.checkFailed(v)
}

// fall notes that a whole request failed, for all the visits in it.
func (c *Client) fall(ctx context.Context, visits []*visit, err error) {
	var answer *omaha.AnswerError
	ended := ctx.Err() != nil
	if errors.As(err, &answer) && answer.RetryAfter > 0 && !ended {
		c.postponeChecks(visits, time.Now().Add(answer.RetryAfter))
	}
	for _, v := range visits {
		if ended {
			v.err = context.Cause(ctx)
			if errors.Is(err, v.err) {
				v.err = err // says why the attempt before failed, if there was one
			}
			continue
		}
		v.err = &Error{Op: "check", AppID: v.app.id, Code: omaha.CodeOf(err), Err: err}
		c.plan(v.app, func() { c.count(v.app, err) })
		c.checkFailed(v)
	}
}

// checkFailed keeps the error of a check for Status.
func (c *Client) checkFailed(v *visit) {
	if v.check {
		c.plan(v.app, func() { v.app.err, v.app.reason = v.err, v.err.Error() })
		c.cfg.logger.Warn("check failed", "app_id", v.app.id, "error", v.err)
	}
}
