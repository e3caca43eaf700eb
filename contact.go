package omahaclient

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
)

// visit is one app's part in a contact with the server. Whoever made it has the app to itself (app.busy).
type visit struct {
	app      *app
	check    bool  // ask for an update
	ping     bool  // say that this machine is alive; a check says so too
	turn     bool  // it is the app's scheduled contact: plan the next one
	demanded bool  // by CheckNow
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

// pingLimit is for how long after a ping the server takes events. Nebraska's limit is 24 h.
const pingLimit = 23 * time.Hour

// exchange makes the requests for visits that may share them. Apps with reports whose last ping is too long ago (or
// unknown, after a start) get a ping in a request of its own first: within one request the server handles events before
// the ping, and would drop them.
func (c *Client) exchange(ctx context.Context, visits []*visit) {
	now := time.Now()
	var silent []*visit
	for _, v := range visits {
		since := now.Sub(c.lastPing(v.app))
		if len(c.journal.Get(v.app.key).Outbox) > 0 && (since > pingLimit || since < 0) {
			silent = append(silent, &visit{app: v.app, ping: true})
		}
	}
	c.ask(ctx, silent, false)
	unheard := map[*app]error{}
	for _, v := range silent {
		if answer := new(omaha.AnswerError); errors.As(v.err, &answer) || ctx.Err() != nil {
			c.fall(ctx, visits, v.err)
			return
		}
		if v.err != nil {
			unheard[v.app] = v.err
		}
	}
	heard := make([]*visit, 0, len(visits))
	for _, v := range visits {
		if err := unheard[v.app]; err != nil {
			c.unheard(v, err)
			continue
		}
		heard = append(heard, v)
	}
	c.ask(ctx, heard, true)
}

// unheard notes that the server refuses even a ping of the app: reports sent now would be acknowledged and dropped.
func (c *Client) unheard(v *visit, err error) {
	v.err = err
	c.plan(v.app, func() {
		v.app.failures = nil
		v.app.refusal = &Error{Op: "report", AppID: v.app.id, Code: omaha.CodeOf(err), Err: errors.Unwrap(err)}
	})
	c.checkFailed(v)
}

// ask goes on asking about the visits that an answer leaves out, as long as each answer brings some; then one by one.
func (c *Client) ask(ctx context.Context, visits []*visit, reports bool) {
	for len(visits) > 0 {
		missing := c.round(ctx, visits, reports)
		if len(missing) < len(visits) {
			visits = missing
			continue
		}
		for _, v := range missing {
			if len(missing) == 1 || len(c.round(ctx, []*visit{v}, reports)) > 0 {
				c.unanswered(v)
			}
		}
		return
	}
}

func (c *Client) lastPing(a *app) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return a.lastPing
}

// round sends one request, in as many parts as its size needs, and returns the visits that the answer leaves out.
func (c *Client) round(ctx context.Context, visits []*visit, reports bool) (missing []*visit) {
	req, sent := c.request(visits, reports)
	var again []*visit // their reports alone filled a request: the check comes after them
	for _, part := range req.Split(0) {
		resp, err := c.server.Do(ctx, part)
		if err != nil {
			c.fall(ctx, append(again, rest(visits, req, part)...), err)
			return missing
		}
		var culprits []*app
		left := len(missing)
		for i, v := range pick(visits, part) {
			answer := resp.Apps[i]
			if errors.Is(answer.Err, omaha.ErrMissingApp) {
				missing = append(missing, v)
				continue
			}
			if isFault(answer.Err) {
				culprits = append(culprits, v.app)
			}
			if c.heard(v, part.Apps[i], sent[v.app], answer, resp.RetryAfter) { //nolint:contextcheck // blobs that nobody needs go, whether or not the call goes on
				again = append(again, v)
			}
		}
		if len(missing) > left {
			c.setSolo(culprits)
		}
	}
	if len(again) > 0 { // each round takes some of their reports off
		missing = append(missing, c.round(ctx, again, reports)...)
	}
	return missing
}

// heard acts on the answer to what was asked of an app, and reports whether it is to be asked again.
func (c *Client) heard(v *visit, ask omaha.AppRequest, sent []state.Report, answer omaha.AppResponse, retryAfter time.Duration) (again bool) {
	sent = sent[:len(ask.Events)]
	if v.check == ask.Check {
		c.answered(v, sent, answer, retryAfter)
		return false
	}
	c.answered(&visit{app: v.app, ping: true}, sent, answer, retryAfter)
	if answer.Delivered == 0 {
		c.unchecked(v, answer.Err)
		return false
	}
	return true
}

// unchecked notes that the app's check cannot be made: the reports before it are not taken.
func (c *Client) unchecked(v *visit, err error) {
	v.err = &Error{Op: "check", AppID: v.app.id, Code: max(omaha.CodeOf(err), omaha.ExitError), Err: cmp.Or(err, errUntaken)}
	c.checkFailed(v)
}

// pick returns the visits of the apps in a part of their request, in its order.
func pick(visits []*visit, part *omaha.Request) []*visit {
	var picked []*visit
	for _, ask := range part.Apps {
		for _, v := range visits {
			if v.app.id == ask.ID {
				picked = append(picked, v)
				break
			}
		}
	}
	return picked
}

// rest returns the visits from a part of the request on.
func rest(visits []*visit, req, from *omaha.Request) []*visit {
	for i, ask := range req.Apps {
		if len(from.Apps) > 0 && ask.ID == from.Apps[0].ID {
			return visits[i:]
		}
	}
	return visits
}

// isFault reports whether the server's refusal is neither policy nor about an update under way.
func isFault(err error) bool {
	var status *omaha.StatusError
	return errors.As(err, &status) && !status.Temporary() && !status.InProgress()
}

// setSolo keeps apps out of other apps' requests: Nebraska's answer ends at the first app that it does not know.
func (c *Client) setSolo(apps []*app) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range apps {
		a.solo = true
	}
}

// request builds the request for the visits, and tells which reports it carries. A success never shares one with a check: if
// its answer were lost, the success would be sent again, and end what the check was granted.
func (c *Client) request(visits []*visit, reports bool) (*omaha.Request, map[*app][]state.Report) {
	req := &omaha.Request{
		UserID: c.dir.MachineID, MachineID: c.dir.MachineID, MachineAlias: c.cfg.alias, BootID: c.bootID,
	}
	sent := make(map[*app][]state.Report, len(visits))
	session := ""
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range visits {
		a := v.app
		ask := omaha.AppRequest{ID: a.id, Version: a.current, Channel: a.channel, Ping: v.ping || v.check, Check: v.check}
		if reports {
			sent[a] = c.journal.Get(a.key).Outbox
			for _, r := range sent[a] {
				ask.Events = append(ask.Events, event(r))
				ask.Check = ask.Check && !(r.Final() && r.Result != int(omaha.EventResultError))
			}
		}
		switch {
		case ask.Check && req.SessionID == "":
			req.SessionID = omaha.NewID()
		case len(sent[a]) > 0 && session == "":
			session = sent[a][0].Session
		}
		req.OnDemand = req.OnDemand || v.demanded
		req.Apps = append(req.Apps, ask)
	}
	for i, v := range visits {
		if req.Apps[i].Check {
			v.app.session = req.SessionID
		}
	}
	if req.SessionID == "" {
		if req.SessionID = session; session == "" {
			req.SessionID = omaha.NewID()
		}
	}
	return req, sent
}

// answered acts on the server's answer for one app.
func (c *Client) answered(v *visit, sent []state.Report, answer omaha.AppResponse, retryAfter time.Duration) {
	a, now := v.app, time.Now()
	delivered := min(answer.Delivered, len(sent))
	if delivered > 0 {
		c.delivered(a, sent[:delivered])
	}
	c.note(v, now, answer.Err, len(sent)-delivered)
	if retryAfter > 0 {
		c.postponeChecks(a, now.Add(retryAfter))
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

// note remembers how the contact went. untaken counts the reports that the server did not take.
func (c *Client) note(v *visit, now time.Time, err error, untaken int) {
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
	}
}

var errUntaken = errors.New("the server did not acknowledge an event")

// count notes one more failed contact in a row; that several of its requests can fail does not matter. mu is held.
func (c *Client) count(a *app, err error) {
	if a.failures == nil {
		a.failures = newFailures(c.cfg.schedule)
	}
	a.failures.last, a.failures.counted = err, false
}

// postponeChecks keeps the server's wish for the next check, across restarts.
func (c *Client) postponeChecks(a *app, until time.Time) {
	if err := c.journal.Do(a.key, func(rec *state.App) error { return rec.Postpone(until) }); err != nil {
		c.cfg.logger.Error("server-asked delay cannot be written", "app_id", a.id, "error", err)
	}
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
		for _, v := range visits {
			c.postponeChecks(v.app, time.Now().Add(answer.RetryAfter))
		}
	}
	for _, v := range visits {
		if ended {
			v.err = context.Cause(ctx)
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
		if f := a.failures; f != nil && !f.counted {
			f.wait, f.counted = f.next(), true
		}
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
