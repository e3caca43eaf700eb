package omahaclient

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
)

// pingLimit is for how long after a ping the server takes events. Nebraska's limit is 24 h.
const pingLimit = 23 * time.Hour

// exchange makes the requests for visits that may share them. Apps with reports whose last ping is too long ago (or
// unknown, after a start) get a ping in a request of its own first: within one request the server handles events before
// the ping, and would drop them.
func (c *Client) exchange(ctx context.Context, visits []*visit) {
	now := time.Now()
	visits = slices.DeleteFunc(visits, func(v *visit) bool { // another contact has delivered its reports meanwhile: nothing is left to say
		return !v.check && !v.ping && len(c.journal.Get(v.app.key).Outbox) == 0
	})
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
			err := v.err
			if own := new(Error); errors.As(err, &own) { // each app's error names that app
				err = own.Err
			}
			c.fall(ctx, visits, err)
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
		if resp.RetryAfter > 0 {
			c.postponeChecks(visits, time.Now().Add(resp.RetryAfter))
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
			if c.heard(v, part.Apps[i], sent[v.app], answer) { //nolint:contextcheck // blobs that nobody needs go, whether or not the call goes on
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
func (c *Client) heard(v *visit, ask omaha.AppRequest, sent []state.Report, answer omaha.AppResponse) (again bool) {
	sent = sent[:len(ask.Events)]
	if v.check == ask.Check {
		c.answered(v, sent, answer)
		return false
	}
	c.answered(&visit{app: v.app, ping: true}, sent, answer)
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
