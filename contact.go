package omahaclient

import (
	"context"
	"errors"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

// visit is one app's part in a contact with the server. Whoever made it has the app to itself (app.busy).
type visit struct {
	app      *app
	check    bool  // ask for an update
	ping     bool  // say that this machine is alive; a check says so too
	turn     bool  // it is the app's scheduled contact: plan the next one
	demanded bool  // by CheckNow
	late     bool  // what it was granted came after the stream's end, and is given back
	err      error // why the check, or the whole contact, failed
}

// visitAll contacts the server about all of the apps that decide wants a visit for: at once about those that are in no other contact,
// about the others as soon as they are free. decide is called with mu held.
func (c *Client) visitAll(ctx context.Context, apps []*app, decide func(*app) (visit, bool)) ([]*visit, error) {
	var all []*visit
	for len(apps) > 0 {
		visits, busy, err := c.claim(ctx, apps, decide)
		if err != nil {
			return all, err
		}
		if len(visits) > 0 {
			c.contact(ctx, visits)
		}
		all, apps = append(all, visits...), busy
	}
	return all, nil
}

// claim waits until one of the apps at least is in no contact, and takes all those.
func (c *Client) claim(ctx context.Context, apps []*app, decide func(*app) (visit, bool)) (visits []*visit, busy []*app, err error) {
	for {
		c.mu.Lock()
		change := c.change
		busy = busy[:0]
		for _, a := range apps {
			if a.busy {
				busy = append(busy, a)
			} else if v, ok := decide(a); ok {
				visits = append(visits, c.take(v))
			}
		}
		c.mu.Unlock()
		if len(busy) < len(apps) {
			return visits, busy, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// take begins a visit. mu is held.
func (c *Client) take(v visit) *visit {
	a := v.app
	c.agenda.remove(a)
	a.busy, a.checking = true, v.check
	a.retry = time.Time{}
	if v.turn {
		a.due = time.Time{} // planned at the end, unless something plans it before
	}
	return &v
}

// contact talks to the server about the visits' apps, acts on its answers, and lets the apps go again.
func (c *Client) contact(ctx context.Context, visits []*visit) {
	defer c.release(ctx, visits)
	if err := c.journal.Sync(); err != nil {
		c.cfg.logger.Error("journal cannot be written, trying again later", "error", err)
	}
	var together, alone []*visit
	for _, v := range visits {
		if v.demanded && v.check {
			c.lift(v.app)
		}
		if v.app.solo {
			alone = append(alone, v)
		} else {
			together = append(together, v)
		}
	}
	c.exchange(ctx, together)
	for _, v := range alone { // last: their trouble is not to hold up the others
		c.exchange(ctx, []*visit{v})
	}
}

// lift forgets what holds the app's checks back: somebody asked for one.
func (c *Client) lift(a *app) {
	if err := c.journal.Do(a.key, (*state.App).Lift); err != nil {
		c.cfg.logger.Error("backoff cannot be lifted on disk", "app_id", a.id, "error", err)
	}
}

// release lets the apps go, and plans their next contacts.
func (c *Client) release(ctx context.Context, visits []*visit) {
	for _, a := range c.letGo(ctx, visits) {
		c.forget(a) //nolint:contextcheck // as in round
	}
}

// letGo returns the apps that are to be forgotten.
func (c *Client) letGo(ctx context.Context, visits []*visit) (gone []*app) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	due, earliest := c.later(now)
	for _, v := range visits {
		a := v.app
		rec := c.journal.Get(a.key)
		a.busy, a.checking = false, false
		if v.turn && a.due.IsZero() {
			a.due, a.earliest = due, earliest
		}
		a.failures.settle(now)
		c.settleRound(v, ctx.Err() != nil, now)
		c.planReports(a, rec, now)
		c.planCheck(a, rec, now)
		if a.leaving && ctx.Err() == nil && (len(rec.Outbox) == 0 || a.refusal != nil && overdue(rec, now)) {
			delete(c.leaving, a.key)
			gone = append(gone, a)
			continue
		}
		c.enqueue(a)
	}
	c.changed()
	return gone
}

// refusedFor is how long the server must have refused the reports of a removed app before it is forgotten with them:
// Nebraska gives a passing fault of its database the same status as an app that it does not know.
const refusedFor = 24 * time.Hour

func overdue(rec *state.App, now time.Time) bool {
	return now.Sub(rec.Outbox[len(rec.Outbox)-1].At) > refusedFor
}

// planReports sets when reports are tried next. mu is held.
func (c *Client) planReports(a *app, rec *state.App, now time.Time) {
	switch {
	case len(rec.Outbox) == 0:
		a.retry, a.refusal = time.Time{}, nil
	case a.refusal != nil:
		a.retry = time.Time{} // with the next scheduled contact
	case a.failures != nil:
		a.retry = now.Add(a.failures.wait)
		if rec.NotBefore.After(a.retry) {
			a.retry = rec.NotBefore
		}
	default:
		a.retry = now // queued meanwhile
	}
}

// planCheck bends the next scheduled contact to what the server asked for and to what is open. mu is held.
func (c *Client) planCheck(a *app, rec *state.App, now time.Time) {
	if w := rec.Wait; w.Active(now) && (w.Kind == state.WaitDefer || w.Kind == state.WaitAge) {
		a.due = earlier(a.due, w.Until)
	}
	if a.due.Before(rec.NotBefore) {
		a.due = rec.NotBefore
	}
	if a.earliest.Before(rec.NotBefore) {
		a.earliest = rec.NotBefore
	}
	if rec.Update != nil || rec.Pending != nil {
		a.due = earlier(a.due, now.Add(longestSilence))
	}
}

// forget drops an app that is no longer configured, now that nothing of it is open.
func (c *Client) forget(a *app) {
	if err := errors.Join(c.journal.Forget(a.key), c.dir.Clean(a.key, nil)); err != nil {
		c.cfg.logger.Error("removed app cannot be forgotten", "app_id", a.id, "error", err)
		return
	}
	c.collect()
	c.cfg.logger.Info("removed app settled and forgotten", "app_id", a.id)
}
