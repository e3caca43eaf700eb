package state

import (
	"encoding/json"
	"slices"
	"time"
)

// Phase is how far an update has come.
type Phase string

// The phases of an update, in their order.
const (
	Granted  Phase = "granted"  // the server offered it and counts it as under way
	Fetching Phase = "fetching" // its payloads are being fetched
	Fetched  Phase = "fetched"  // its payloads are on disk and verified
	Offered  Phase = "offered"  // it was handed to the program, whose verdict is awaited
)

// App is all that the journal knows of one app. A record that was read is never changed again: treat it as immutable.
type App struct {
	Version   string    `json:"version,omitempty"`   // last acknowledged here; "" before the first update
	Update    *Update   `json:"update,omitempty"`    // under way, up to its verdict; never beside Pending
	Pending   *Pending  `json:"pending,omitempty"`   // installed, waiting for a restart
	Tried     *Tried    `json:"tried,omitempty"`     // what was granted last and has not succeeded
	Wait      *Wait     `json:"wait,omitempty"`      // why the app pings instead of checking
	Outbox    []Report  `json:"outbox,omitempty"`    // in the order of sending
	Last      *Verdict  `json:"last,omitempty"`      // the last final report, should the server have lost it
	Wedged    bool      `json:"wedged,omitempty"`    // the last check said "in progress", and nothing here explains it
	LastSeq   uint64    `json:"last_seq,omitempty"`  // given to an update or report
	LastCheck time.Time `json:"last_check,omitzero"` // kept up only while checks are held back
	NotBefore time.Time `json:"not_before,omitzero"` // the server asked for no check before
	Seen      *Seen     `json:"seen,omitempty"`      // the release that ripens (minimum age)
	Fresh     *Fresh    `json:"fresh,omitempty"`     // only where staleness is watched
	Base      string    `json:"base,omitempty"`      // identity of the newest finished payload that the next one can build on; "": none
}

// Update is a granted update until its verdict.
type Update struct {
	Phase    Phase           `json:"phase"`
	Seq      uint64          `json:"seq"` // tells this grant from every other of the app
	Version  string          `json:"version"`
	Previous string          `json:"previous"` // what ran when it was granted
	Channel  string          `json:"channel,omitempty"`
	Identity string          `json:"identity"` // of version and payloads; names the payload folder
	Session  string          `json:"session,omitempty"`
	Manifest json.RawMessage `json:"manifest"`
	At       time.Time       `json:"at"`                 // of the grant
	Payloads json.RawMessage `json:"payloads,omitempty"` // once Fetched
	NoWait   bool            `json:"no_wait,omitempty"`  // the server asked that its backoff be no longer than the schedule
}

// Pending is an installed update that takes effect at the next start or boot.
type Pending struct {
	Version  string    `json:"version"`
	Previous string    `json:"previous"`
	Channel  string    `json:"channel,omitempty"`
	Identity string    `json:"identity"`
	Session  string    `json:"session,omitempty"`
	At       time.Time `json:"at"`
	Boot     string    `json:"boot,omitempty"`   // boot id at the installation, or at the last start that was counted
	Starts   int       `json:"starts,omitempty"` // starts that still had the old version
	Runs     bool      `json:"runs,omitempty"`   // the new version runs; success awaits the program's word
	NoWait   bool      `json:"no_wait,omitempty"`
}

// Tried remembers a release over several grants.
type Tried struct {
	Version  string `json:"version"`
	Identity string `json:"identity"`
	Handed   int    `json:"handed,omitempty"` // how often it was handed over
}

// WaitKind says why an app pings instead of checking.
type WaitKind string

// The kinds of Wait.
const (
	WaitBackoff WaitKind = "backoff" // the release failed here
	WaitRefused WaitKind = "refused" // the release is not acceptable (downgrade, trust)
	WaitDefer   WaitKind = "defer"   // the program said: not now
	WaitAge     WaitKind = "age"     // the release has not been offered for long enough
)

// Wait holds the checks of an app back because of one release.
type Wait struct {
	Kind     WaitKind  `json:"kind"`
	Version  string    `json:"version"`
	Identity string    `json:"identity"`
	Channel  *string   `json:"channel,omitempty"` // that offered it; nil where that was not noted yet. The transitions set it
	Until    time.Time `json:"until,omitzero"`    // zero for a backoff: the next scheduled check; for a refusal: for good
	// While the clock is before PutBackFrom, it was put back, and PutBackUntil counts instead of Until. Both zero: it was not.
	PutBackFrom  time.Time `json:"put_back_from,omitzero"`
	PutBackUntil time.Time `json:"put_back_until,omitzero"`

	Failures int    `json:"failures,omitempty"`
	Code     int    `json:"code"` // to give an early grant back with
	Reason   string `json:"reason,omitempty"`
}

// Active reports whether checks are still held back at now.
func (w *Wait) Active(now time.Time) bool {
	switch {
	case w == nil:
		return false
	case w.Kind == WaitRefused:
		return true
	case now.Before(w.PutBackFrom):
		return now.Before(w.PutBackUntil)
	default:
		return now.Before(w.Until)
	}
}

// Seen is when a release was first offered.
type Seen struct {
	Identity string    `json:"identity"`
	At       time.Time `json:"at"`
}

// Report is one Omaha event on its way to the server.
type Report struct {
	Seq      uint64    `json:"seq"`
	Type     int       `json:"type"`
	Result   int       `json:"result"`
	Code     int       `json:"code,omitempty"`
	Previous string    `json:"previous,omitempty"`
	Next     string    `json:"next,omitempty"`
	Version  string    `json:"version,omitempty"` // the app's version and channel when it happened,
	Channel  string    `json:"channel,omitempty"` // for an app that is no longer configured
	Session  string    `json:"session,omitempty"`
	At       time.Time `json:"at"`
	User     bool      `json:"user,omitempty"` // sent by the program itself
}

// Final reports whether r ends an update on the server.
func (r Report) Final() bool { return r.Type == eventComplete }

// Verdict is the last final report of an app, kept for a server that lost it.
type Verdict struct {
	Report  Report    `json:"report"`
	Resends int       `json:"resends,omitempty"`
	Resent  time.Time `json:"resent,omitzero"` // the last time
}

// clone copies a and everything that a transition may change in place.
func (a *App) clone() *App {
	c := *a
	c.Outbox = slices.Clone(a.Outbox)
	c.Update = clonePtr(a.Update)
	c.Pending = clonePtr(a.Pending)
	c.Tried = clonePtr(a.Tried)
	c.Wait = clonePtr(a.Wait)
	c.Last = clonePtr(a.Last)
	c.Seen = clonePtr(a.Seen)
	c.Fresh = clonePtr(a.Fresh)
	return &c
}

// onWallClock takes the monotonic clock's reading from every time. That clock stands still while a machine sleeps, and what
// was noted before a restart has none: with it, a wait would last longer than it does after a restart.
func (a *App) onWallClock() {
	times := []*time.Time{&a.LastCheck, &a.NotBefore}
	if a.Update != nil {
		times = append(times, &a.Update.At)
	}
	if a.Pending != nil {
		times = append(times, &a.Pending.At)
	}
	if a.Wait != nil {
		times = append(times, &a.Wait.Until, &a.Wait.PutBackFrom, &a.Wait.PutBackUntil)
	}
	if a.Last != nil {
		times = append(times, &a.Last.Report.At, &a.Last.Resent)
	}
	if a.Seen != nil {
		times = append(times, &a.Seen.At)
	}
	if a.Fresh != nil {
		times = append(times, &a.Fresh.Answer, &a.Fresh.Head, &a.Fresh.Behind)
	}
	for i := range a.Outbox {
		times = append(times, &a.Outbox[i].At)
	}
	for _, t := range times {
		*t = t.Round(0)
	}
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// Keeps lists the identities whose payload folders the app still needs.
func (a *App) Keeps() []string {
	var ids []string
	if a.Update != nil {
		ids = append(ids, a.Update.Identity)
	}
	if a.Pending != nil {
		ids = append(ids, a.Pending.Identity)
	}
	if a.Tried != nil {
		ids = append(ids, a.Tried.Identity)
	}
	if a.Base != "" {
		ids = append(ids, a.Base)
	}
	return ids
}
