package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrTransition is wrapped by every refusal of a transition that the record's present state does not allow.
var ErrTransition = errors.New("illegal transition")

// errUnchanged ends a transition that has nothing to write; Journal.Do takes it for success.
var errUnchanged = errors.New("unchanged")

// Event types and results as they go over the wire; package omaha has them all.
const (
	eventComplete   = 3
	resultError     = 0
	maxReports      = 64  // in an outbox, before intermediate ones are dropped
	maxFinalReports = 256 // in an outbox at all
)

func illegal(what string, a *App) error {
	return fmt.Errorf("%w: %s while %s", ErrTransition, what, a.describe())
}

func (a *App) describe() string {
	switch {
	case a.Update != nil:
		return fmt.Sprintf("version %s is %s", a.Update.Version, a.Update.Phase)
	case a.Pending != nil:
		return fmt.Sprintf("version %s waits for a restart", a.Pending.Version)
	default:
		return "no update is open"
	}
}

// open returns the update with number seq in one of the phases, or an error that names what was tried.
func (a *App) open(what string, seq uint64, phases ...Phase) (*Update, error) {
	if a.Update == nil || a.Update.Seq != seq || !slices.Contains(phases, a.Update.Phase) {
		return nil, illegal(what, a)
	}
	return a.Update, nil
}

// Grant opens an update. Its Seq is assigned here. Another release than the last one lifts what that one left behind.
func (a *App) Grant(u Update) error {
	if a.Update != nil || a.Pending != nil {
		return illegal("grant of "+u.Version, a)
	}
	u.Phase, u.Seq = Granted, a.seq()
	a.Update = &u
	a.Wedged = 0
	a.consider(u.Version, u.Identity)
	return nil
}

// consider makes the release the one that Tried and Wait speak of.
func (a *App) consider(version, identity string) {
	if a.Tried == nil || a.Tried.Identity != identity {
		a.Tried = &Tried{Version: version, Identity: identity}
	}
	if a.Wait != nil && a.Wait.Identity != identity {
		a.Wait = nil
	}
}

// Start goes from Granted to Fetching. Where it went on further before an interruption, it changes nothing.
func (a *App) Start(seq uint64, r Report) error {
	u, err := a.open("start of a fetch", seq, Granted, Fetching, Fetched, Offered)
	if err != nil {
		return err
	}
	if u.Phase != Granted {
		return errUnchanged
	}
	u.Phase = Fetching
	a.queue(r)
	return nil
}

// Finish goes from Fetching to Fetched. Where it went that far before an interruption, it only notes where the payloads
// are now.
func (a *App) Finish(seq uint64, payloads json.RawMessage, r Report) error {
	u, err := a.open("end of a fetch", seq, Fetching, Fetched, Offered)
	if err != nil {
		return err
	}
	if u.Phase != Fetching {
		if bytes.Equal(u.Payloads, payloads) {
			return errUnchanged
		}
		u.Payloads = payloads
		return nil
	}
	u.Phase, u.Payloads = Fetched, payloads
	a.queue(r)
	return nil
}

// Offer hands a fetched update over, once more where it was handed over before.
func (a *App) Offer(seq uint64) error {
	u, err := a.open("offer", seq, Fetched, Offered)
	if err != nil {
		return err
	}
	u.Phase = Offered
	a.Tried.Handed++
	return nil
}

// Succeed ends an update whose version runs now. What runs decides, so it is allowed in every phase.
func (a *App) Succeed(seq uint64, r Report) error {
	u, err := a.open("success", seq, Granted, Fetching, Fetched, Offered)
	if err != nil {
		return err
	}
	a.succeeded(u.Version, r)
	return nil
}

func (a *App) succeeded(version string, r Report) {
	a.Version = version
	a.Update, a.Pending, a.Tried, a.Wait, a.Seen = nil, nil, nil, nil, nil
	a.conclude(r)
}

// Fail ends an update with a failure in any phase. A nil w leaves the next scheduled check as it is.
func (a *App) Fail(seq uint64, r Report, w *Wait) error {
	if _, err := a.open("failure", seq, Granted, Fetching, Fetched, Offered); err != nil {
		return err
	}
	if err := failure(r); err != nil {
		return err
	}
	a.Update = nil
	if w != nil {
		a.hold(*w, r.At)
	}
	a.conclude(r)
	return nil
}

// Defer ends an offered update that its program does not want now.
func (a *App) Defer(seq uint64, r Report, w Wait) error {
	if _, err := a.open("deferral", seq, Offered); err != nil {
		return err
	}
	return a.Fail(seq, r, &w)
}

// Install ends an offered update that takes effect at the next start or boot.
func (a *App) Install(seq uint64, p Pending, r Report) error {
	u, err := a.open("installation", seq, Offered)
	if err != nil {
		return err
	}
	p.Version, p.Previous, p.Channel, p.Identity, p.Session, p.NoWait = u.Version, u.Previous, u.Channel, u.Identity, u.Session, u.NoWait
	a.Update, a.Pending = nil, &p
	a.queue(r)
	return nil
}

// CountStart notes a start, during this boot, that still had the version from before the installation.
func (a *App) CountStart(boot string) error {
	if a.Pending == nil {
		return illegal("count of a start", a)
	}
	a.Pending.Starts++
	a.Pending.Boot = boot
	return nil
}

// Runs notes that the installed version runs, while its confirmation is still to come.
func (a *App) Runs() error {
	if a.Pending == nil {
		return illegal("start of the new version", a)
	}
	if a.Pending.Runs {
		return errUnchanged
	}
	a.Pending.Runs = true
	return nil
}

// Confirm ends an installation with success.
func (a *App) Confirm(r Report) error {
	if a.Pending == nil {
		return illegal("confirmation", a)
	}
	a.succeeded(a.Pending.Version, r)
	return nil
}

// Revert ends an installation that did not come to life.
func (a *App) Revert(r Report, w *Wait) error {
	if a.Pending == nil {
		return illegal("rollback", a)
	}
	if err := failure(r); err != nil {
		return err
	}
	a.Pending = nil
	if w != nil {
		a.hold(*w, r.At)
	}
	a.conclude(r)
	return nil
}

// Refuse gives a grant back that was not opened, and holds checks back because of its release.
func (a *App) Refuse(r Report, w Wait) error {
	if a.Update != nil || a.Pending != nil {
		return illegal("refusal of "+w.Version, a)
	}
	if err := failure(r); err != nil {
		return err
	}
	if w.Kind == WaitAge && (a.Seen == nil || a.Seen.Identity != w.Identity) {
		a.Seen = &Seen{Identity: w.Identity, At: r.At}
	}
	a.Wedged = 0
	a.hold(w, r.At)
	a.conclude(r)
	return nil
}

// Same acknowledges a grant of the version that runs already: it is complete.
func (a *App) Same(r Report) error {
	if a.Update != nil || a.Pending != nil {
		return illegal("completion without an update", a)
	}
	a.Wait, a.Tried, a.Seen = nil, nil, nil
	a.conclude(r)
	return nil
}

// hold sets w, keeping the count of failures of the same release.
func (a *App) hold(w Wait, now time.Time) {
	a.consider(w.Version, w.Identity)
	if a.Wait != nil {
		w.Failures = max(w.Failures, a.Wait.Failures)
	}
	a.Wait = &w
	a.LastCheck = now
}

// Lift forgets that checks are held back; what failed before and fails again counts on.
func (a *App) Lift() error {
	if a.Wait == nil || (a.Wait.Kind != WaitRefused && a.Wait.Until.IsZero()) {
		return errUnchanged
	}
	w := *a.Wait
	w.Kind, w.Until = WaitBackoff, time.Time{}
	a.Wait = &w
	return nil
}

// Checked notes a check that changed nothing else. It is written only while checks are held back.
func (a *App) Checked(now time.Time) error {
	held := a.Wait.Active(now)
	if a.Wedged == 0 && !held {
		return errUnchanged
	}
	a.Wedged = 0
	if held {
		a.LastCheck = now
	}
	return nil
}

// Postpone notes until when the server wants no check.
func (a *App) Postpone(until time.Time) error {
	if a.NotBefore.Equal(until) {
		return errUnchanged
	}
	a.NotBefore = until
	return nil
}

// Send queues an event of the program's own. A final one would end an open update behind its back.
func (a *App) Send(r Report) error {
	if r.Final() && (a.Update != nil || a.Pending != nil) {
		return illegal("final event", a)
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

// Wedge notes that the server believes in an update that nothing here explains, and decides what to tell it:
// the last verdict again, at most maxResends times; without one, free at the second sighting in a row.
func (a *App) Wedge(free Report, maxResends int) error {
	if a.Update != nil || a.Pending != nil {
		return illegal("wedge", a)
	}
	for _, r := range a.Outbox {
		if r.Final() {
			return errUnchanged // its delivery will free the instance
		}
	}
	held := a.Wait.Active(free.At)
	if held {
		a.LastCheck = free.At
	}
	a.Wedged++
	switch {
	case a.Last != nil && a.Last.Resends < maxResends:
		r := a.Last.Report
		r.At, r.Channel = free.At, free.Channel
		a.Last.Resends++
		a.queue(r)
	case a.Last == nil && a.Wedged >= 2:
		if err := failure(free); err != nil {
			return err
		}
		a.conclude(free)
		a.Last.Resends = 1
	case a.Last != nil && !held:
		return errUnchanged // all that there is to say was said
	}
	return nil
}

func failure(r Report) error {
	if !r.Final() || r.Result != resultError {
		return fmt.Errorf("%w: event %d/%d does not report a failure", ErrTransition, r.Type, r.Result)
	}
	return nil
}

// conclude queues the final report r and keeps it for a server that loses it.
func (a *App) conclude(r Report) {
	a.queue(r)
	a.Last = &Verdict{Report: a.Outbox[len(a.Outbox)-1]}
}

func (a *App) seq() uint64 {
	a.NextSeq++
	return a.NextSeq
}

// queue appends r. An outbox that has grown long (offline for weeks) loses intermediate reports first, oldest first.
func (a *App) queue(r Report) {
	r.Seq = a.seq()
	a.Outbox = append(a.Outbox, r)
	if len(a.Outbox) > maxReports {
		i := slices.IndexFunc(a.Outbox, func(r Report) bool { return !r.Final() && !r.User })
		if i < 0 {
			i = slices.IndexFunc(a.Outbox, func(r Report) bool { return !r.Final() })
		}
		if i >= 0 && i < len(a.Outbox)-1 {
			a.Outbox = slices.Delete(a.Outbox, i, i+1)
		}
	}
	if len(a.Outbox) > maxFinalReports {
		a.Outbox = slices.Delete(a.Outbox, 0, 1)
	}
}
