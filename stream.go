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

// stream is one channel of offers, from Updates or UpdatesOnce to its close.
type stream struct {
	once bool // one round, then the end
	out  chan UpdateOffer
	work sync.WaitGroup // contacts and fetches

	// Guarded by Client.mu:
	todo  []*app          // with an update to be fetched
	asked map[*app]uint64 // what was put into todo last, by the update's number
	ready []*offer        // to be handed over, oldest first
	errs  []error         // of a round
	why   error           // of a contact that the end of ctx cut off
	over  bool            // its loop has ended: nobody takes what it would be granted now
}

// want has the app's open update fetched, once. mu is held.
func (s *stream) want(a *app, u *state.Update) {
	if u != nil && s.asked[a] != u.Seq {
		s.asked[a] = u.Seq
		s.todo = append(s.todo, a)
	}
}

// Updates checks for updates until ctx is done, fetches what is offered, and sends each verified offer on the returned
// channel.
//
// The channel is unbuffered, and closed once everything that the stream began has ended. A stream ends by its ctx or by
// Close; failures (server down, bad payload, bad answer) never end it: they back off, are reported, and show in Status.
// There is at most one open offer per app, and an app whose offer is not received or not settled holds up no other. An
// offer that was not settled when its stream, or the process, ended is delivered again by the next one. A second stream
// waits until the first has closed. After Client.Close the channel comes closed.
func (c *Client) Updates(ctx context.Context) <-chan UpdateOffer { return c.start(ctx, false) }

// UpdatesOnce does one round for cron jobs, systemd timers and command lines: it checks every app at once and closes when
// each has answered, its offer is settled and the reports are delivered. Err is then nil, or why some of it failed; after the end of
// ctx its cause, joined with what the round was waiting for. What
// holds checks back (a gate, a backoff, a deferral, a delay that the server asked for) does so here too. An outage makes
// the round wait for ctx.
func (c *Client) UpdatesOnce(ctx context.Context) <-chan UpdateOffer { return c.start(ctx, true) }

func (c *Client) start(ctx context.Context, once bool) <-chan UpdateOffer {
	s := &stream{once: once, out: make(chan UpdateOffer), asked: map[*app]uint64{}}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		c.mu.Lock()
		c.lastErr = err
		c.mu.Unlock()
		close(s.out)
		return s.out
	}
	open, _ := c.openStream(ctx, s) // before the caller goes on: what CheckNow finds next is this stream's
	go func() {                     // Close waits for it: enter counted it
		defer leave()
		defer close(s.out)
		if open || c.awaitTurn(ctx, s) {
			c.serve(ctx, s)
		}
	}()
	return s.out
}

// serve is the life of an open stream.
func (c *Client) serve(ctx context.Context, s *stream) {
	err := c.loop(ctx, s)
	c.mu.Lock()
	s.over = true
	c.mu.Unlock()
	s.work.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.once && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		err = c.unfinished(s, err)
	}
	c.stream, c.lastErr = nil, err
	for len(c.agenda) > 0 {
		c.agenda.remove(c.agenda[0])
	}
	c.changed()
}

// openStream makes s the open stream, unless there is another one: then the channel returned is closed at the next change.
func (c *Client) openStream(ctx context.Context, s *stream) (open bool, change <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream == nil && ctx.Err() == nil {
		c.stream = s
		c.begin(s, time.Now())
		return true, nil
	}
	return false, c.change
}

// awaitTurn makes s the open stream as soon as there is no other, and reports whether it came to that before ctx ended.
func (c *Client) awaitTurn(ctx context.Context, s *stream) bool {
	if ctx.Err() == nil {
		c.cfg.logger.Warn("a second stream was asked for; it waits until the first has closed")
	}
	for {
		open, change := c.openStream(ctx, s)
		if open {
			return true
		}
		select {
		case <-change:
		case <-ctx.Done():
			c.mu.Lock()
			c.lastErr = context.Cause(ctx)
			c.mu.Unlock()
			return false
		}
	}
}

// begin plans the first contacts of a stream, and takes up what is open. mu is held.
func (c *Client) begin(s *stream, now time.Time) {
	first := now.Add(c.cfg.schedule.first())
	for _, a := range c.apps {
		rec := c.journal.Get(a.key)
		a.once, a.failures, a.refusal = s.once, nil, nil
		a.due, a.earliest = first, first
		if s.once || a.urgent {
			a.due, a.earliest = now, now
		}
		c.planReports(a, rec, now)
		c.planCheck(a, rec, now)
		if rec.NotBefore.After(now) {
			a.once = false // the server asked for no check yet: a round has none to wait for
		}
		if rec.Update != nil {
			a.once = false // its offer is this round's
			s.want(a, rec.Update)
		}
		c.enqueue(a)
	}
	for _, a := range c.leavingApps() {
		a.due, a.earliest = c.later(now)
		a.retry = now
		c.enqueue(a)
	}
}

// loop is the heart of the client: it starts whatever is due, hands over what is ready, and waits for the next of these.
// Nothing in it blocks, and the work itself is done in goroutines that serve waits for.
func (c *Client) loop(ctx context.Context, s *stream) error {
	for {
		c.mu.Lock()
		change := c.change
		now := time.Now()
		if ctx.Err() == nil {
			c.startContacts(ctx, s, now)
			c.startFetches(ctx, s)
		}
		head := s.head()
		wait := c.untilNext(now)
		if s.once && head == nil && c.roundOver(s) {
			err := errors.Join(s.errs...)
			s.over = true
			c.mu.Unlock()
			return err
		}
		c.mu.Unlock()

		var out chan UpdateOffer // nil blocks
		var offer UpdateOffer
		if head != nil {
			out, offer = s.out, head.shown
		}
		timer := time.NewTimer(wait)
		select {
		case out <- offer:
			c.handedOver(s, head)
		case <-change:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// head returns the offer to be handed over next, or nil. mu is held.
func (s *stream) head() *offer {
	for len(s.ready) > 0 && !s.ready[0].open() {
		s.ready = s.ready[1:] // an earlier copy was settled meanwhile
	}
	if len(s.ready) == 0 {
		return nil
	}
	return s.ready[0]
}

func (c *Client) handedOver(s *stream, o *offer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.received = true
	s.ready = s.ready[1:]
}

// fail notes why part of a round failed. mu is held.
func (s *stream) fail(err error) { s.errs = append(s.errs, err) }

const idleWait = time.Hour // with nothing at all in the agenda

// untilNext returns how long nothing is due. mu is held.
func (c *Client) untilNext(now time.Time) time.Duration {
	when, ok := c.agenda.head()
	if !ok {
		return idleWait
	}
	return max(when.Sub(now), 0)
}

// startContacts takes every app that is due, together with those whose turn may come already, into one contact. mu is held.
func (c *Client) startContacts(ctx context.Context, s *stream, now time.Time) {
	var visits []*visit
	turn := false
	for when, ok := c.agenda.head(); ok && !when.After(now); when, ok = c.agenda.head() {
		v := c.take(c.visit(c.agenda[0], now))
		turn = turn || v.turn
		visits = append(visits, v)
	}
	if len(visits) == 0 {
		return
	}
	for _, a := range slices.Clone(c.agenda) {
		switch {
		case turn && !a.earliest.After(now) && !a.leaving:
			a.due = now
		case a.retry.IsZero() || a.retry.After(now.Add(c.cfg.schedule.Min/20)): // in an outage, retries stay together
			continue
		}
		visits = append(visits, c.take(c.visit(a, now)))
	}
	s.work.Go(func() {
		c.askGate(visits)
		c.contact(ctx, visits)
		c.look(ctx, visits)
	})
}

// visit decides what a due app's contact is for. mu is held.
func (c *Client) visit(a *app, now time.Time) visit {
	rec := c.journal.Get(a.key)
	v := visit{app: a, turn: !a.due.After(now)}
	if !v.turn || a.leaving {
		return v // reports alone
	}
	v.check = c.mayCheck(a, rec, now)
	v.ping = !v.check
	if v.check {
		a.urgent = false
	}
	return v
}

// mayCheck reports whether the app's scheduled contact asks for an update, or only says that the machine is alive: what
// would be given back anyway is not asked for, since every grant costs the group. mu is held.
func (c *Client) mayCheck(a *app, rec *state.App, now time.Time) bool {
	switch {
	case a.underWay(rec):
		return false
	case c.stream.once && !a.once:
		return false
	case !rec.Wait.Active(now):
		return true
	case rec.Wait.Kind == state.WaitDefer || rec.Wait.Kind == state.WaitAge:
		return false
	default:
		return now.Sub(rec.LastCheck) >= checksSkipped*c.cfg.schedule.mean()
	}
}

// underWay reports whether an update of the app is open: until its verdict is in memory as well as in the journal, since a check in
// between would still name the old version, and be granted the new one again. mu is held.
func (a *app) underWay(rec *state.App) bool {
	return rec.Update != nil || rec.Pending != nil || a.offer != nil
}

// askGate turns checks into pings for apps whose gate is closed.
func (c *Client) askGate(visits []*visit) {
	if c.cfg.gate == nil {
		return
	}
	for _, v := range visits {
		if !v.check {
			continue
		}
		now := time.Now()
		open, next := c.cfg.gate(v.app.id, now)
		if open {
			continue
		}
		v.check, v.ping = false, true
		c.mu.Lock()
		a := v.app
		a.checking, a.gated = false, true
		a.reason = "the gate is closed"
		a.due, a.earliest = c.later(now)
		if next.After(now) {
			a.reason += " until " + next.Format(time.RFC3339)
			// Not all machines at the very moment when the window opens.
			a.due = earlier(a.due, next.Add(between(0, c.cfg.schedule.Min/20)))
			a.earliest = a.due
		}
		c.mu.Unlock()
	}
}

// startFetches starts what was granted, as soon as the app's fetch before has returned. mu is held.
func (c *Client) startFetches(ctx context.Context, s *stream) {
	var later []*app
	for _, a := range s.todo {
		if a.fetching {
			later = append(later, a)
			continue
		}
		a.fetching = true
		s.work.Go(func() {
			defer c.plan(a, func() { a.fetching = false })
			c.fetch(ctx, a)
		})
	}
	s.todo = later
}

// settleRound notes that an app has had its check in a round. mu is held.
func (c *Client) settleRound(v *visit, ended bool, now time.Time) {
	a, s := v.app, c.stream
	if s != nil && ended && v.err != nil {
		s.why = v.err
	}
	if s == nil || !s.once || !a.once || ended || !v.check && (!v.turn || v.demanded) {
		return
	}
	if errors.As(v.err, new(*omaha.AnswerError)) && !isFinal(v.err) {
		if a.failures == nil { // a new stream has just forgotten them
			c.count(a, v.err)
			a.failures.settle(now)
		}
		a.due = now.Add(a.failures.wait) // an outage: the round goes on
		a.earliest = a.due
		return
	}
	a.once = false
	if v.err != nil {
		s.fail(v.err)
	}
}

// unfinished is the error of a round that ctx ended before it was over: the cause, and what the round was waiting for. mu is held.
func (c *Client) unfinished(s *stream, cause error) error {
	if errors.Is(s.why, cause) {
		cause = s.why // and says why the attempt before failed, if there was one
	}
	errs := append([]error{cause}, s.errs...)
	for _, a := range c.apps {
		if a.failures != nil {
			errs = append(errs, &Error{Op: "check", AppID: a.id, Code: omaha.CodeOf(a.failures.last), Err: a.failures.last})
		}
	}
	return errors.Join(errs...)
}

// isFinal reports whether a contact failed in a way that trying again soon cannot help.
func isFinal(err error) bool {
	var answer *omaha.AnswerError
	return errors.As(err, &answer) && answer.Final()
}

// roundOver reports whether nothing of a round is left to be done, and collects what the server refuses. mu is held.
func (c *Client) roundOver(s *stream) bool {
	if len(s.todo) > 0 {
		return false
	}
	var refusals []error
	for _, a := range slices.Concat(c.apps, c.leavingApps()) {
		rec := c.journal.Get(a.key)
		if a.once || a.busy || a.fetching || rec.Update != nil {
			return false
		}
		switch {
		case len(rec.Outbox) == 0 && !a.leaving: // which is gone as soon as a contact finds nothing left to say
		case a.refusal != nil && a.leaving: // tried again in later rounds, for a day
		case a.refusal != nil:
			refusals = append(refusals, a.refusal)
		case a.failures != nil && (isFinal(a.failures.last) || a.untaken > 1): // no outage: it will be the same the next time
			refusals = append(refusals, &Error{Op: "report", AppID: a.id, Code: omaha.CodeOf(a.failures.last), Err: a.failures.last})
		default:
			return false
		}
	}
	s.errs = append(s.errs, refusals...)
	return true
}

// CheckNow asks the server about the apps (all of them for none) at once, whatever schedule, gate, backoffs and
// server-asked delays say. It returns when the answers are in, with the joined errors of the apps whose check failed; a
// refusal by the server's policy is no failure, nor is an app whose update is under way (it is not checked). What is found
// reaches the open stream. Without one, only pings are sent, since nobody would take what the server grants: good for
// proving endpoint, ids, channels and credentials. ErrUnknownApp for an id that no WithApp named.
func (c *Client) CheckNow(ctx context.Context, appIDs ...string) error {
	apps, err := c.find(appIDs)
	if err != nil {
		return err
	}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	visits, err := c.visitAll(ctx, apps, func(a *app) (visit, bool) {
		rec := c.journal.Get(a.key)
		check := c.takes() && !a.underWay(rec)
		return visit{app: a, check: check, ping: !check, turn: true, demanded: true}, true
	})
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		for _, v := range visits {
			if errors.Is(v.err, ctx.Err()) {
				return v.err
			}
		}
		return context.Cause(ctx)
	}
	var errs []error
	for _, v := range visits {
		errs = append(errs, v.err)
		if v.late {
			_ = c.deliver(ctx, c.queued([]*app{v.app}), true) // or by the next who delivers
		}
	}
	return errors.Join(errs...)
}

// takes reports whether there is a stream for what the server grants. mu is held.
func (c *Client) takes() bool { return c.stream != nil && !c.stream.over }

func (c *Client) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.takes()
}
