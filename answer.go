package omahaclient

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
)

// decide acts on the answer to an update check.
func (c *Client) decide(v *visit, answer omaha.AppResponse, now time.Time) {
	a := v.app
	c.mu.Lock()
	a.checked = now
	a.gated = false
	a.checking = false // although its contact may go on: what was granted can be offered before that ends
	c.mu.Unlock()
	var status *omaha.StatusError
	var invalid *omaha.InvalidError
	switch {
	case errors.As(answer.Err, &status) && status.InProgress():
		c.wedged(a, status, now)
	case errors.As(answer.Err, &status) && status.Temporary():
		c.quiet(a, now)
		c.plan(a, func() { a.reason = status.Reason() })
	case errors.As(answer.Err, &invalid):
		v.err = &Error{Op: "check", AppID: a.id, Code: omaha.ExitResponseInvalid, Err: answer.Err}
		c.refuseInvalid(a, invalid, now)
		c.checkFailed(v)
	case answer.Err != nil:
		v.err = &Error{Op: "check", AppID: a.id, Code: omaha.CodeOf(answer.Err), Err: answer.Err}
		c.quiet(a, now)
		c.checkFailed(v)
	case len(answer.Manifests) > 0:
		c.granted(v, answer.Manifests[0], now)
	default:
		c.quiet(a, now)
		c.plan(a, func() { a.err, a.reason = nil, "no update" })
	}
}

// quiet notes a check that granted nothing.
func (c *Client) quiet(a *app, now time.Time) {
	c.noteUnwritten(a, c.journal.Do(a.key, func(rec *state.App) error { return rec.Checked(now) }))
}

// noteUnwritten logs a transition that stands in memory alone so far; the journal tries again by itself.
func (c *Client) noteUnwritten(a *app, err error) {
	if err != nil {
		c.cfg.logger.Error("journal cannot be written", "app_id", a.id, "error", err)
	}
}

// maxResends bounds how often a lost verdict is sent again: an instance that the server will not free must not turn into
// a loop.
const maxResends = 3

// wedged answers a server that believes in an update that nothing here knows of: its final report was lost.
func (c *Client) wedged(a *app, status *omaha.StatusError, now time.Time) {
	r := c.failure(a, c.currentOf(a), "", c.sessionOf(a), omaha.ExitError, now)
	err := c.journal.Do(a.key, func(rec *state.App) error { return rec.Wedge(r, maxResends) })
	c.noteUnwritten(a, err)
	rec := c.journal.Get(a.key)
	answered := len(rec.Outbox) > 0 || rec.Last == nil
	c.plan(a, func() {
		a.reason = status.Reason()
		if answered && a.failures == nil { // look soon whether it helped; a server that stays so is asked at the normal interval
			a.due = now.Add(c.cfg.schedule.soon())
			a.earliest = a.due
		}
	})
}

func (c *Client) currentOf(a *app) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return a.current
}

// granted decides whether an offered version is taken. What is not, is given back to the server at once, so that it
// blocks nobody else.
func (c *Client) granted(v *visit, m omaha.Manifest, now time.Time) {
	a := v.app
	current := c.currentOf(a)
	id := identity(m)
	rec := c.journal.Get(a.key)
	w := state.Wait{Kind: state.WaitRefused, Version: m.Version, Identity: id, Code: int(omaha.ExitDeferredPolicy)}
	cmp, semantic := omaha.CompareVersions(m.Version, current)
	switch {
	case m.Version == current || semantic && cmp == 0:
		c.same(a, m, now)
		return
	case v.demanded && !c.isOpen(): // the stream has ended since CheckNow asked
		w.Kind, w.Until, w.Reason = state.WaitDefer, now, "no stream is open to take it"
		v.late = true
	case semantic && cmp < 0 && !a.downgrades:
		w.Reason = fmt.Sprintf("it is lower than the current %s (WithDowngrades would take it)", current)
	case rec.Wait.Active(now) && rec.Wait.Identity == id && !doubtful(rec.Wait):
		w = *rec.Wait
	case a.minAge > 0:
		if w.Until = ripe(rec, id, a.minAge, now); !now.Before(w.Until) {
			c.open(a, m, id, current, now)
			return
		}
		w.Kind = state.WaitAge
	default:
		c.open(a, m, id, current, now)
		return
	}
	c.refuse(a, w, c.failure(a, current, m.Version, c.sessionOf(a), omaha.ExitCode(w.Code), now), now)
}

// doubtful reports whether a release was refused for want of proof: that may have come since.
func doubtful(w *state.Wait) bool {
	return w.Kind == state.WaitRefused && w.Code == int(omaha.ExitPublicKey)
}

// ripe returns when the release will have been offered for long enough.
func ripe(rec *state.App, id string, age time.Duration, now time.Time) time.Time {
	if rec.Seen != nil && rec.Seen.Identity == id {
		return rec.Seen.At.Add(age)
	}
	return now.Add(age)
}

// same answers a grant of the version that runs already.
func (c *Client) same(a *app, m omaha.Manifest, now time.Time) {
	r := c.complete(a, m.Version, m.Version, c.sessionOf(a), now)
	c.noteUnwritten(a, c.journal.Do(a.key, func(rec *state.App) error { return rec.Same(r) }))
	c.plan(a, func() { a.err, a.reason = nil, "the server offers the version that runs already" })
}

// refuse gives a grant back.
func (c *Client) refuse(a *app, w state.Wait, r state.Report, now time.Time) {
	c.noteUnwritten(a, c.journal.Do(a.key, func(rec *state.App) error { return rec.Refuse(r, w) }))
	c.cfg.logger.Info("offered version given back", "app_id", a.id, "version", w.Version, "code", r.Code, "reason", describeWait(&w))
	c.plan(a, func() {
		a.reason = ""
		if w.Kind == state.WaitAge {
			due, _ := c.later(now)
			a.due = earlier(due, w.Until)
		}
	})
}

// refuseInvalid gives back a grant of something unusable; it backs off like a release that failed.
func (c *Client) refuseInvalid(a *app, invalid *omaha.InvalidError, now time.Time) {
	current := c.currentOf(a)
	sum := sha256.Sum256([]byte(invalid.Reason))
	id := hex.EncodeToString(sum[:16])
	if w := c.journal.Get(a.key).Wait; w.Active(now) && w.Identity == id {
		c.refuse(a, *w, c.failure(a, current, "", c.sessionOf(a), omaha.ExitCode(w.Code), now), now)
		return
	}
	r := c.failure(a, current, "", c.sessionOf(a), omaha.ExitResponseInvalid, now)
	c.noteUnwritten(a, c.journal.Do(a.key, func(rec *state.App) error {
		return rec.Refuse(r, *backOff(rec, "", id, false, now, invalid))
	}))
}

// open takes the grant: from here on there is an update to be settled.
func (c *Client) open(a *app, m omaha.Manifest, id, current string, now time.Time) {
	manifest, err := json.Marshal(m)
	if err != nil {
		c.cfg.logger.Error("manifest cannot be kept", "app_id", a.id, "error", err) // it was made of strings and numbers
		return
	}
	u := state.Update{
		Version: m.Version, Previous: current, Channel: a.channel, Identity: id,
		Session: c.sessionOf(a), Manifest: manifest, At: now, NoWait: noBackoff(m),
	}
	err = c.journal.Do(a.key, func(rec *state.App) error { return rec.Grant(u) })
	if refused(err) {
		c.cfg.logger.Error("grant not taken", "app_id", a.id, "version", m.Version, "error", err)
		return
	}
	c.noteUnwritten(a, err)
	c.cfg.logger.Info("update offered by the server", "app_id", a.id, "version", m.Version, "current", current)
	c.clean(a)
	c.plan(a, func() {
		a.reason = ""
		if c.stream != nil {
			c.stream.want(a, c.journal.Get(a.key).Update)
		}
	})
}

// noBackoff reports whether the manifest asks for no backoff beyond the schedule (Flatcar's DisablePayloadBackoff).
func noBackoff(m omaha.Manifest) bool {
	for _, action := range m.Actions {
		if action.DisablePayloadBackoff {
			return true
		}
	}
	return false
}

// identity tells a release from every other: its version and what is to be fetched. 32 hexadecimal digits.
func identity(m omaha.Manifest) string {
	h := sha256.New()
	field := func(s string) { fmt.Fprintf(h, "%d:%s,", len(s), s) }
	field(m.Version)
	for _, p := range m.Packages {
		field(p.Name)
		field(p.MediaType)
		fmt.Fprintf(h, "%d,", p.Size)
		field(string(p.SHA1))
		field(string(p.SHA256))
		if len(p.SHA1) == 0 && len(p.SHA256) == 0 {
			for _, u := range p.URLs { // without their queries: signed URLs differ at each check
				u, _, _ = strings.Cut(u, "?")
				field(u)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
