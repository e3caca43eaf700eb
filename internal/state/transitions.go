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
	a.Wedged = false
	a.consider(u.Version, u.Identity)
	if a.Wait.served(u.At) {
		a.Wait.lapse()
	}
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
	if err := a.must(underWay, r); err != nil {
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
	if err := a.must(underWay, r); err != nil {
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

// Rebase says which release's payload the next one can build on: its folder is kept whatever becomes of that release. ""
// is for payloads that nothing builds on.
func (a *App) Rebase(identity string) error {
	if a.Base == identity {
		return errUnchanged
	}
	a.Base = identity
	return nil
}

// Succeed ends an update whose version runs now. What runs decides, so it is allowed in every phase.
func (a *App) Succeed(seq uint64, r Report) error {
	u, err := a.open("success", seq, Granted, Fetching, Fetched, Offered)
	if err != nil {
		return err
	}
	return a.succeed(u.Version, r)
}

func (a *App) succeed(version string, r Report) error {
	if err := a.must(succeeded, r); err != nil {
		return err
	}
	a.Version = version
	a.Update, a.Pending, a.Tried, a.Wait, a.Seen = nil, nil, nil, nil, nil
	a.conclude(r)
	return nil
}

// Fail ends an update with a failure in any phase. A nil w leaves the next scheduled check as it is.
func (a *App) Fail(seq uint64, r Report, w *Wait) error {
	u, err := a.open("failure", seq, Granted, Fetching, Fetched, Offered)
	if err != nil {
		return err
	}
	return a.fail(u.Identity, u.Channel, r, w)
}

// fail ends the update, or the installation, of the release with this identity from this channel.
func (a *App) fail(identity, channel string, r Report, w *Wait) error {
	if err := a.must(failed, r); err != nil {
		return err
	}
	a.Update, a.Pending = nil, nil
	if w != nil {
		if w.Identity != identity {
			return fmt.Errorf("%w: wait for another release than the one that failed", ErrTransition)
		}
		a.hold(*w, channel, r.At)
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

// Install ends an offered update that takes effect at the next start or boot. Of p it takes At and Boot.
func (a *App) Install(seq uint64, p Pending, r Report) error {
	u, err := a.open("installation", seq, Offered)
	if err != nil {
		return err
	}
	if err := a.must(underWay, r); err != nil {
		return err
	}
	a.Update, a.Pending = nil, &Pending{
		Version: u.Version, Previous: u.Previous, Channel: u.Channel, Identity: u.Identity, Session: u.Session, NoWait: u.NoWait,
		At: p.At, Boot: p.Boot,
	}
	a.queue(r)
	return nil
}

// CountStart notes a start, during this boot, that still had the version from before the installation.
func (a *App) CountStart(boot string) error {
	if a.Pending == nil || a.Pending.Runs {
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
	return a.succeed(a.Pending.Version, r)
}

// Revert ends an installation that did not come to life. A nil w leaves the next scheduled check as it is.
func (a *App) Revert(r Report, w *Wait) error {
	if a.Pending == nil {
		return illegal("rollback", a)
	}
	return a.fail(a.Pending.Identity, a.Pending.Channel, r, w)
}

// Refuse gives a grant back that was not opened, and holds checks back because of its release.
func (a *App) Refuse(r Report, w Wait) error {
	if a.Update != nil || a.Pending != nil {
		return illegal("refusal of "+w.Version, a)
	}
	if err := a.must(failed, r); err != nil {
		return err
	}
	if w.Kind == WaitAge && (a.Seen == nil || a.Seen.Identity != w.Identity) {
		a.Seen = &Seen{Identity: w.Identity, At: r.At}
	}
	a.hold(w, r.Channel, r.At)
	a.conclude(r)
	return nil
}

// Same acknowledges a grant of the version that runs already: it is complete.
func (a *App) Same(r Report) error {
	if a.Update != nil || a.Pending != nil {
		return illegal("completion without an update", a)
	}
	if err := a.must(succeeded, r); err != nil {
		return err
	}
	a.Wait, a.Tried, a.Seen = nil, nil, nil
	a.conclude(r)
	return nil
}

// hold sets w for a release of channel, keeping the count of failures of the same release.
func (a *App) hold(w Wait, channel string, now time.Time) {
	a.consider(w.Version, w.Identity)
	if a.Wait != nil {
		w.Failures = max(w.Failures, a.Wait.Failures)
	}
	w.Channel = &channel
	a.Wait = &w
	a.LastCheck = now
}

// Lift forgets that checks are held back; what failed before and fails again counts on.
func (a *App) Lift() error {
	if a.Wait == nil || (a.Wait.Kind != WaitRefused && a.Wait.Until.IsZero()) {
		return errUnchanged
	}
	a.Wait.lapse()
	return nil
}

// lapse leaves nothing of w but what counts if its release fails again.
func (w *Wait) lapse() {
	w.Kind, w.Until, w.PutBackFrom, w.PutBackUntil = WaitBackoff, time.Time{}, time.Time{}, time.Time{}
}

// Checked notes a check that changed nothing else. It is written only where that matters to what comes later.
func (a *App) Checked(now time.Time) error {
	held, served, helped := a.Wait.Active(now), a.Wait.served(now), a.Last.helped(now)
	if !a.Wedged && !held && !served && !helped {
		return errUnchanged
	}
	a.Wedged = false
	if held {
		a.LastCheck = now
	}
	if served {
		a.Wait.lapse()
	}
	if helped {
		a.Last.Resends = 0
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
