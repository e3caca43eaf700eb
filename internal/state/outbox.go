package state

import (
	"fmt"
	"slices"
	"time"
)

const (
	eventComplete   = 3 // Omaha's event type of a final report
	resultError     = 0
	maxSent         = 48  // of the program's own, in an outbox
	maxReports      = 64  // in an outbox, before intermediate ones of ours are dropped
	maxFinalReports = 256 // in an outbox at all
)

// ErrFull is returned by Send when as many events of the program's own as an outbox takes wait in it.
var ErrFull = fmt.Errorf("%d events wait already", maxSent)

// Send queues an event of the program's own. A final one would end an open update behind its back. What was queued stays until it is
// delivered: one that there is no room for is refused.
func (a *App) Send(r Report) error {
	if r.Final() && (a.Update != nil || a.Pending != nil) {
		return illegal("final event", a)
	}
	sent := 0
	for i := range a.Outbox {
		if a.Outbox[i].User {
			sent++
		}
	}
	if sent >= maxSent {
		return ErrFull
	}
	r.User = true
	a.queue(r)
	return nil
}

// Delivered removes reports that the server took.
func (a *App) Delivered(seqs ...uint64) error {
	n := len(a.Outbox)
	a.Outbox = slices.DeleteFunc(a.Outbox, func(r Report) bool { return slices.Contains(seqs, r.Seq) })
	if len(a.Outbox) == n {
		return errUnchanged
	}
	return nil
}

// Wedge notes that the server believes in an update that nothing here explains, and decides what to tell it: the last
// verdict again, until it has been sent again maxResends times with no other answer for long; without one, free at the second sighting in a row. A
// final report that is under way already will do.
func (a *App) Wedge(free Report, maxResends int) error {
	if a.Update != nil || a.Pending != nil {
		return illegal("wedge", a)
	}
	if err := a.must(failed, free); err != nil {
		return err
	}
	if slices.ContainsFunc(a.Outbox, Report.Final) {
		return errUnchanged
	}
	held := a.Wait.Active(free.At)
	if held {
		a.LastCheck = free.At
	}
	switch {
	case a.Last == nil && !a.Wedged:
		a.Wedged = true
	case a.Last == nil:
		a.conclude(free)
		a.Last.Resends, a.Last.Resent = 1, free.At
	case a.Last.Resends < maxResends:
		r := a.Last.Report
		r.At, r.Channel = free.At, free.Channel
		a.Last.Resends++
		a.Last.Resent = free.At
		a.queue(r)
	case !held:
		return errUnchanged // all that there is to say was said
	}
	return nil
}

// resendPause is how long after the last resend an answer proves that it helped, and that the next time is another one: two
// machines with one id, of which each frees the other's update, would go on for ever if any answer did.
const resendPause = 24 * time.Hour

// helped reports whether an answer at now that is not "in progress" settles that the verdict was sent again. A clock that was
// put back since settles it as well.
func (v *Verdict) helped(now time.Time) bool {
	if v == nil || v.Resends == 0 {
		return false
	}
	since := now.Sub(v.Resent)
	return since < 0 || since >= resendPause
}

// outcome is what a report tells about an update.
type outcome string

const (
	underWay  outcome = "progress"
	succeeded outcome = "a success"
	failed    outcome = "a failure"
)

func (r Report) outcome() outcome {
	switch {
	case !r.Final():
		return underWay
	case r.Result == resultError:
		return failed
	default:
		return succeeded
	}
}

// must refuses a report that says something else than the transition that it comes with.
func (a *App) must(want outcome, r Report) error {
	if got := r.outcome(); got != want {
		return fmt.Errorf("%w: event %d/%d reports %s, not %s", ErrTransition, r.Type, r.Result, got, want)
	}
	return nil
}

// conclude queues the final report r and keeps it for a server that loses it.
func (a *App) conclude(r Report) {
	a.queue(r)
	a.Last = &Verdict{Report: a.Outbox[len(a.Outbox)-1]}
	a.Wedged = false
}

// queue appends r. An outbox that has grown long (offline for weeks) loses intermediate reports of ours first, and then, where there
// is no end of them, verdicts: the oldest each time. The newest report stays, and so do the program's own.
func (a *App) queue(r Report) {
	r.Seq = a.seq()
	a.Outbox = append(a.Outbox, r)
	older := a.Outbox[:len(a.Outbox)-1]
	drop := -1
	if len(a.Outbox) > maxReports {
		drop = slices.IndexFunc(older, func(r Report) bool { return !r.Final() && !r.User })
	}
	if drop < 0 && len(a.Outbox) > maxFinalReports {
		drop = max(slices.IndexFunc(older, func(r Report) bool { return !r.User }), 0) // the program's own alone are older versions'
	}
	if drop >= 0 {
		a.Outbox = slices.Delete(a.Outbox, drop, drop+1)
	}
}

// seq numbers an update or report.
func (a *App) seq() uint64 {
	a.LastSeq++
	return a.LastSeq
}
