package omahaclient

import (
	"fmt"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
)

// The verdicts on an update, the program's and our own: each is one transition of the journal, which queues the report,
// followed by the new plan for the app.

// succeed: the update is installed and runs.
func (c *Client) succeed(a *app, u *state.Update, now time.Time) error {
	r := c.complete(a, u.Previous, u.Version, u.Session, now)
	err := c.journal.Do(a.key, func(rec *state.App) error { return rec.Succeed(u.Seq, r) })
	if refused(err) {
		return err
	}
	c.cfg.logger.Info("update complete", "app_id", a.id, "version", u.Version)
	c.finished(a, u.Version, now)
	return err
}

// finished plans for an app that has just come to run version.
func (c *Client) finished(a *app, version string, now time.Time) {
	c.plan(a, func() {
		a.current, a.err, a.reason = version, nil, ""
		a.due = now.Add(c.cfg.schedule.soon())
		a.earliest = a.due
		a.retry = now
	})
}

// fail: the update ends here. A release that is itself at fault backs off; a transfer is simply tried again.
func (c *Client) fail(a *app, u *state.Update, now time.Time, cause *Error, release bool) error {
	r := c.failure(a, u.Previous, u.Version, u.Session, cause.Code, now)
	err := c.journal.Do(a.key, func(rec *state.App) error {
		var w *state.Wait
		if release {
			w = backOff(rec, u.Version, u.Identity, u.NoWait, now, cause.Err)
			if cause.Code == omaha.ExitPublicKey && cause.Op == "verify" {
				distrust(rec, w, cause.Err)
			}
		}
		return rec.Fail(u.Seq, r, w)
	})
	if refused(err) {
		return err
	}
	c.cfg.logger.Warn("update attempt ended", "app_id", a.id, "version", u.Version, "op", cause.Op, "code", int(cause.Code), "error", cause.Err)
	c.failed(a, cause, now)
	return err
}

// failed plans for an app whose attempt has just ended.
func (c *Client) failed(a *app, cause *Error, now time.Time) {
	c.plan(a, func() {
		a.err, a.reason = cause, ""
		if c.stream != nil && c.stream.once && cause.Op != "apply" {
			c.stream.fail(cause)
		}
		a.due, a.earliest = c.later(now)
		a.retry = now
	})
}

// install: the update takes effect later.
func (c *Client) install(a *app, u *state.Update, now time.Time) error {
	r := c.report(a, omaha.EventTypeUpdateInstalled, omaha.EventResultSuccess, u.Previous, u.Version, u.Session, now)
	err := c.journal.Do(a.key, func(rec *state.App) error {
		return rec.Install(u.Seq, state.Pending{At: now, Boot: c.boot}, r)
	})
	if refused(err) {
		return err
	}
	c.cfg.logger.Info("update installed, waiting for the restart", "app_id", a.id, "version", u.Version)
	c.plan(a, func() { a.reason, a.retry = "", now })
	return err
}

// postpone: not now, says the program.
func (c *Client) postpone(a *app, u *state.Update, now time.Time, d time.Duration) error {
	w := state.Wait{
		Kind: state.WaitDefer, Version: u.Version, Identity: u.Identity, Until: now.Add(max(d, 0)),
		Code: int(omaha.ExitDeferredPolicy), Reason: "deferred by the program",
	}
	r := c.failure(a, u.Previous, u.Version, u.Session, omaha.ExitDeferredPolicy, now)
	err := c.journal.Do(a.key, func(rec *state.App) error { return rec.Defer(u.Seq, r, w) })
	if refused(err) {
		return err
	}
	c.cfg.logger.Info("update deferred", "app_id", a.id, "version", u.Version, "until", w.Until)
	c.plan(a, func() {
		a.reason, a.retry = "", now
		a.due, a.earliest = c.later(now)
		if d > 0 {
			a.due = earlier(a.due, w.Until)
		}
	})
	return err
}

// The backoff of a release that failed: once more at the next scheduled check, then after 1, 2, 4, 8, 16 days, each give
// or take 6 hours (update_engine's numbers).
const (
	day           = 24 * time.Hour
	backoffJitter = 6 * time.Hour
	maxBackoff    = 16 * day
)

func backOff(rec *state.App, version, identity string, noWait bool, now time.Time, cause error) *state.Wait {
	w := state.Wait{
		Kind: state.WaitBackoff, Version: version, Identity: identity, Failures: 1,
		Code: int(omaha.ExitDeferredBackoff), Reason: cause.Error(),
	}
	if len(w.Reason) > 500 {
		w.Reason = w.Reason[:500] // it is kept on disk
	}
	if rec.Wait != nil && rec.Wait.Identity == identity {
		w.Failures += rec.Wait.Failures
	}
	if w.Failures > 1 && !noWait {
		days := min(day<<min(w.Failures-2, 10), maxBackoff)
		w.Until = now.Add(days + between(-backoffJitter, backoffJitter))
	}
	return &w
}

// plan changes an app's state in memory and wakes who waits for it.
func (c *Client) plan(a *app, change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.enqueue(a)
	c.changed()
}

// enqueue puts the app where its times belong, if a stream is open to look at them. mu is held.
func (c *Client) enqueue(a *app) {
	if c.stream != nil && !a.busy {
		c.agenda.add(a)
	}
}

// later returns when the next scheduled contact is due, and from when on it may ride along with another app's.
func (c *Client) later(now time.Time) (due, earliest time.Time) {
	return now.Add(c.cfg.schedule.wait()), now.Add(c.cfg.schedule.Min)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// describeWait says in plain words why the app pings instead of checking.
func describeWait(w *state.Wait) string {
	what := "version " + w.Version
	if w.Version == "" {
		what = "the server's offer" // too damaged to name one
	}
	until := w.Until.Format(time.RFC3339)
	switch w.Kind {
	case state.WaitRefused:
		return fmt.Sprintf("%s is refused: %s", what, w.Reason)
	case state.WaitDefer:
		return fmt.Sprintf("%s is deferred until %s", what, until)
	case state.WaitAge:
		return fmt.Sprintf("%s is not taken before %s: it must have been offered for a while (WithMinAge)", what, until)
	default:
		return fmt.Sprintf("%s failed %d times and backs off until %s; last: %s", what, w.Failures, until, w.Reason)
	}
}
