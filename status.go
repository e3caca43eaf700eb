package omahaclient

import (
	"fmt"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

// Phase is what an app is doing.
type Phase string

// The phases of an app.
const (
	Idle           Phase = "idle"            // waiting for the next check
	Checking       Phase = "checking"        // asking the server for an update
	Fetching       Phase = "fetching"        // getting the payloads of a granted update
	Offered        Phase = "offered"         // fetched; the program's verdict is awaited
	RestartPending Phase = "restart-pending" // installed; takes effect at the next start or boot
	BackingOff     Phase = "backing-off"     // a release failed, is refused or deferred; the app only pings for now
)

// AppStatus says where an app stands, and why.
type AppStatus struct {
	AppID, Channel, Version string
	Phase                   Phase     // Idle, Checking, Fetching, Offered, RestartPending, BackingOff
	Target                  string    // version being worked on; "" if none
	LastCheck, NextCheck    time.Time // of an answered check; of the next scheduled contact (zero without an open stream)
	Reason                  string    // plain words: why nothing happens now, e.g. "server: updates disabled for this group"
	LastError               error     // of the last check or attempt; kept until a finished update or a plain "no update"
	PendingEvents           int       // reports that the server does not have yet
	Stale                   string    // why the app may be kept from updates, and since when; "" while all is well (WithMaxStaleness)
}

// Status returns the state of each app, in the order of the options. It may be called at any time, after Close as well.
func (c *Client) Status() []AppStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	list := make([]AppStatus, len(c.apps))
	for i, a := range c.apps {
		list[i] = c.status(a, c.journal.Get(a.key), now)
	}
	return list
}

// status is called with mu held.
func (c *Client) status(a *app, rec *state.App, now time.Time) AppStatus {
	s := AppStatus{
		AppID: a.id, Channel: a.channel, Version: a.current, Phase: Idle,
		LastCheck: a.checked, LastError: a.err, Reason: a.reason, PendingEvents: len(rec.Outbox),
	}
	if c.stream != nil {
		s.NextCheck = a.due
	}
	if a.stale != nil {
		s.Stale = a.stale.Reason + ", since " + a.stale.Since.Format(time.RFC3339)
	}
	switch {
	case rec.Update != nil:
		s.Phase, s.Target = Fetching, rec.Update.Version
		if rec.Update.Phase == state.Offered && a.offer != nil {
			s.Phase = Offered
			s.Reason = fmt.Sprintf("version %s waits for the program's verdict since %s", s.Target, a.offer.since.Format(time.RFC3339))
		} else if c.stream == nil {
			s.Reason = fmt.Sprintf("version %s waits for a stream: call Updates", s.Target)
		}
	case rec.Pending != nil:
		s.Phase, s.Target = RestartPending, rec.Pending.Version
		s.Reason = describePending(a, rec.Pending)
	case a.checking:
		s.Phase = Checking
	case rec.Wait.Active(now):
		s.Phase, s.Target = BackingOff, rec.Wait.Version
		s.Reason = describeWait(rec.Wait)
	case rec.NotBefore.After(now):
		s.Reason = join(s.Reason, "the server asked for no check before "+rec.NotBefore.Format(time.RFC3339))
	case c.stream == nil && s.Reason == "": // what the last answer said is worth more
		s.Reason = "no stream is open: call Updates"
	case s.Reason == "":
		s.Reason = a.waiting(s.NextCheck)
	}
	if c.closing {
		s.Reason = "the client is closed: the next one on this state directory goes on"
	}
	if a.refusal != nil && len(rec.Outbox) > 0 {
		s.Reason = join(s.Reason, fmt.Sprintf("the server refuses %d reports: %v", len(rec.Outbox), a.refusal))
	}
	return s
}

// waiting says why an app does nothing that only waits for its next contact.
func (a *app) waiting(next time.Time) string {
	at := next.Format(time.RFC3339)
	switch {
	case a.err != nil:
		return fmt.Sprintf("the last attempt failed, and the next one comes with the check at %s: %v", at, a.err)
	case a.checked.IsZero():
		return "the first check comes at " + at
	default:
		return "nothing is open; the next check comes at " + at
	}
}

func describePending(a *app, p *state.Pending) string {
	since := p.At.Format(time.RFC3339)
	switch {
	case p.Runs:
		return fmt.Sprintf("version %s runs and waits for Confirm", p.Version)
	case a.reboot:
		return fmt.Sprintf("version %s waits for a reboot since %s", p.Version, since)
	default:
		return fmt.Sprintf("version %s waits for a restart of the program since %s", p.Version, since)
	}
}

func join(reason, more string) string {
	if reason == "" {
		return more
	}
	return reason + "; " + more
}
