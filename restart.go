package omahaclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
)

const (
	// maxStarts is how often the old version may start after an installation before that counts as failed.
	maxStarts = 3
	// staleAfter is the age at which an update that a dead process left open is given back before it goes on: its grant
	// may have timed out on the server, or the release may have been withdrawn.
	staleAfter = time.Hour
)

// restart settles what earlier processes left in the journal, as far as that can be known now. It sends nothing.
func (c *Client) restart(now time.Time) error {
	var errs []error
	for _, key := range c.journal.IDs() {
		errs = append(errs, c.journal.Do(key, func(rec *state.App) error { return rec.PutBack(now) }))
	}
	for _, a := range c.apps {
		errs = append(errs, c.resume(a, now))
	}
	for _, key := range c.journal.IDs() {
		if c.byKey[key] == nil {
			errs = append(errs, c.retire(key, now))
		}
	}
	if err := c.dir.CleanAll(slices.Collect(maps.Keys(c.cfg.fetchers))); err != nil {
		c.cfg.logger.Warn("payloads left behind", "error", err)
	}
	c.collect()
	c.endTrial()
	err := errors.Join(errs...)
	if refused(err) {
		return fmt.Errorf("settle what the last run left: %w", err)
	}
	if err != nil {
		c.cfg.logger.Error("journal cannot be written, trying again later", "error", err)
	}
	return nil
}

// resume settles one configured app: what runs decides.
func (c *Client) resume(a *app, now time.Time) error {
	rec := c.journal.Get(a.key)
	if a.current = a.version; a.current == "" {
		a.current = rec.Version
	}
	if a.current == "" {
		a.current = noVersion
	}
	if cmp, ok := omaha.CompareVersions(a.version, rec.Version); ok && cmp < 0 {
		c.cfg.logger.Warn("the version given to WithApp is older than the last one acknowledged here: a program that always gives "+
			`the same version updates at every start; give "" to follow the acknowledged one`, "app_id", a.id, "version", a.version, "acknowledged", rec.Version)
	}
	var err error
	switch {
	case rec.Pending != nil:
		err = c.resumePending(a, rec.Pending, now)
	case rec.Update != nil:
		err = c.resumeUpdate(a, rec.Update, now)
	}
	return errors.Join(err, c.liftMoot(a))
}

// liftMoot lifts what holds checks back and is moot by now; what was open has been settled before.
func (c *Client) liftMoot(a *app) error {
	rec := c.journal.Get(a.key)
	if rec.Update != nil || rec.Pending != nil || rec.Wait == nil || !moot(a, rec.Wait) {
		return nil
	}
	return c.journal.Do(a.key, (*state.App).Lift)
}

// moot reports whether what holds checks back does not any more, now that another version runs (changed by hand) or the
// options are others: what one channel offers says nothing of another.
func moot(a *app, w *state.Wait) bool {
	cmp, semantic := omaha.CompareVersions(w.Version, a.current)
	switch {
	case w.Channel != nil && *w.Channel != a.channel:
		return true
	case w.Kind == state.WaitRefused && w.Code == int(omaha.ExitDeferredPolicy):
		return a.downgrades || !semantic || cmp > 0
	case w.Kind == state.WaitAge && a.minAge == 0:
		return true
	default:
		return sameVersion(w.Version, a.current) || semantic && cmp < 0 && !a.downgrades
	}
}

const noVersion = "0.0.0"

// resumePending decides whether an installed version has come to life.
func (c *Client) resumePending(a *app, p *state.Pending, now time.Time) error {
	if a.reboot && p.Boot != "" && p.Boot == c.boot {
		return nil // the boot is still to come, or was counted
	}
	switch {
	case a.version == "" || sameVersion(a.version, p.Version):
		a.current = p.Version
		if a.manualConfirm {
			return c.journal.Do(a.key, (*state.App).Runs)
		}
		return c.confirm(a, p, now)
	case sameVersion(a.version, p.Previous) && !p.Runs && p.Starts+1 < maxStarts && !c.rolledBack(a, p.Version):
		return c.journal.Do(a.key, func(rec *state.App) error { return rec.CountStart(c.boot) })
	default:
		return c.revert(a, p, now)
	}
}

func sameVersion(a, b string) bool {
	cmp, ok := omaha.CompareVersions(a, b)
	return a == b || ok && cmp == 0
}

// confirm ends a restart with success: 3/2 with the version from before.
func (c *Client) confirm(a *app, p *state.Pending, now time.Time) error {
	r := c.report(a, omaha.EventTypeUpdateComplete, omaha.EventResultSuccessReboot, p.Previous, p.Version, p.Session, now)
	err := c.journal.Do(a.key, func(rec *state.App) error { return rec.Confirm(r) })
	if !refused(err) {
		c.cfg.logger.Info("installed version runs", "app_id", a.id, "version", p.Version)
		c.finished(a, p.Version, now)
	}
	return err
}

// revert ends a restart with failure: 3/0, rolled back.
func (c *Client) revert(a *app, p *state.Pending, now time.Time) error {
	why := fmt.Errorf("version %s was installed, but %s runs%s", p.Version, a.current, c.rollbackReason(a, p.Version))
	cause := &Error{Op: "apply", AppID: a.id, Code: omaha.ExitRolledBack, Err: why}
	r := c.failure(a, p.Previous, p.Version, p.Session, omaha.ExitRolledBack, now)
	err := c.journal.Do(a.key, func(rec *state.App) error {
		return rec.Revert(r, backOff(rec, p.Version, p.Identity, p.NoWait, now, cause.Err))
	})
	if !refused(err) {
		c.cfg.logger.Warn("installed version does not run", "app_id", a.id, "error", cause.Err)
		c.failed(a, cause, now)
	}
	return err
}

// resumeUpdate goes on with an update that a dead process left open, unless its version runs already, it is too old, or it
// was granted to what no longer runs here: to another version, or on another channel.
func (c *Client) resumeUpdate(a *app, u *state.Update, now time.Time) error {
	switch age := now.Sub(u.At); {
	case a.version != "" && sameVersion(a.version, u.Version):
		if a.manualConfirm && u.Phase == state.Offered {
			return c.unconfirmed(a, u, now)
		}
		return c.succeed(a, u, now)
	case c.rolledBack(a, u.Version):
		cause := fmt.Errorf("version %s was in place, and was rolled back before it was confirmed%s", u.Version, c.rollbackReason(a, u.Version))
		return c.fail(a, u, now, &Error{Op: "apply", AppID: a.id, Code: omaha.ExitRolledBack, Err: cause}, true)
	case age > staleAfter || age < 0 || !sameVersion(a.current, u.Previous) || a.channel != u.Channel:
		r := c.failure(a, u.Previous, u.Version, u.Session, omaha.ExitDeferredPolicy, now)
		a.urgent = true
		return c.journal.Do(a.key, func(rec *state.App) error { return rec.Fail(u.Seq, r, nil) })
	default:
		a.session = u.Session
		return nil
	}
}

// unconfirmed makes up for the Installed of a program that died between putting the offered version in place and saying so:
// it runs, and the program's Confirm is still to come.
func (c *Client) unconfirmed(a *app, u *state.Update, now time.Time) error {
	r := c.report(a, omaha.EventTypeUpdateInstalled, omaha.EventResultSuccess, u.Previous, u.Version, u.Session, now)
	err := c.journal.Do(a.key, func(rec *state.App) error {
		if err := rec.Install(u.Seq, state.Pending{At: now, Boot: c.boot}, r); err != nil {
			return err
		}
		return rec.Runs()
	})
	if !refused(err) {
		c.cfg.logger.Info("offered version runs, waiting for its confirmation", "app_id", a.id, "version", u.Version)
	}
	return err
}

// rolledBack reports whether the program has put its old version back in place of this one.
func (c *Client) rolledBack(a *app, version string) bool {
	t := c.trial()
	return t != nil && t.RolledBack && appKey(t.AppID) == a.key && t.Version == version
}

// rollbackReason returns ": " and why the program has put its old version back in place of this one; "" where nothing is known.
func (c *Client) rollbackReason(a *app, version string) string {
	if t := c.trial(); c.rolledBack(a, version) && t.Reason != "" {
		return ": " + t.Reason
	}
	return ""
}

// trial returns the program's trial of a new version of itself, nil for none.
func (c *Client) trial() *state.Trial {
	t, err := state.LoadTrial(c.dir.Path)
	if err != nil {
		c.cfg.logger.Warn("a new version's trial is lost, it counts as confirmed by its start", "error", err)
	}
	return t
}

// endTrial forgets the trial of a version that is neither open nor pending any more.
func (c *Client) endTrial() {
	t := c.trial()
	if t == nil {
		return
	}
	rec := c.journal.Get(appKey(t.AppID))
	if rec.Update != nil && rec.Update.Version == t.Version || rec.Pending != nil && rec.Pending.Version == t.Version {
		return
	}
	if err := state.DropTrial(c.dir.Path); err != nil {
		c.cfg.logger.Warn("a new version's trial is over, but its file cannot be removed", "error", err)
	}
}

// retire settles an app of the journal that is no longer configured; its reports are delivered before it is forgotten.
func (c *Client) retire(key string, now time.Time) error {
	rec := c.journal.Get(key)
	a := &app{appConfig: appConfig{id: key}, key: key, leaving: true, index: absent, current: noVersion}
	if rec.Version != "" {
		a.current = rec.Version
	}
	if n := len(rec.Outbox); n > 0 {
		a.channel, a.current = rec.Outbox[n-1].Channel, rec.Outbox[n-1].Version
	}
	var err error
	switch {
	case rec.Update != nil:
		u := rec.Update
		a.channel, a.current = u.Channel, u.Previous
		r := c.failure(a, u.Previous, u.Version, u.Session, omaha.ExitDeferredPolicy, now)
		err = c.journal.Do(key, func(rec *state.App) error { return rec.Fail(u.Seq, r, nil) })
	case rec.Pending != nil:
		p := rec.Pending
		a.channel, a.current = p.Channel, p.Previous
		r := c.failure(a, p.Previous, p.Version, p.Session, omaha.ExitDeferredPolicy, now)
		err = c.journal.Do(key, func(rec *state.App) error { return rec.Revert(r, nil) })
	case len(rec.Outbox) == 0:
		return c.journal.Forget(key)
	}
	c.leaving[key] = a
	return err
}

// Confirm reports success for an app whose installed version runs since the last start, after the program has convinced
// itself of it (WithManualConfirm). Without such an app's restart to confirm it does nothing. ErrUnknownApp, or the cause
// if the confirmation cannot be written.
func (c *Client) Confirm(appID string) error {
	apps, err := c.find([]string{appID})
	if err != nil {
		return err
	}
	_, leave, err := c.enter(context.Background())
	if err != nil {
		return err
	}
	defer leave()
	a := apps[0]
	p := c.journal.Get(a.key).Pending
	if p == nil || !p.Runs {
		return nil
	}
	err = c.confirm(a, p, time.Now())
	c.endTrial()
	return closedOr(err)
}

// leavingApps lists the apps that leave, in a stable order. mu is held.
func (c *Client) leavingApps() []*app {
	var list []*app
	for _, a := range c.leaving {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *app) int { return strings.Compare(a.key, b.key) })
	return list
}
