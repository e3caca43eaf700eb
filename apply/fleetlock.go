package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/wait"
)

// FleetLock applies updates under a lock of the cluster's (the FleetLock protocol, as Zincati and airlock speak it), so that
// a few machines only restart at a time. It asks for the lock before Applier gets the offer, for as long as it takes; it
// releases it after a success and after a failure. Where Applier asks for a restart, the lock is held over it, and released
// by Serve in the program's next life, once the new version is confirmed, or the old one is back.
//
// That the lock is held is written to the state directory before it is asked for, with URL, Group and ID, so that neither a crash
// nor another configuration can lose it: the next Serve releases what was taken, unless the update goes on, and never while one is
// being applied. Apply itself tries once to release it, so that no lock manager holds up a verdict; Serve does the rest. Asking and
// releasing twice does no harm. Where an app has no FleetLock any more, Serve releases what it held, without Authorize.
//
// Apps of one Client may share a lock (the same URL, Group and ID): the machine then holds one place, until none of their updates
// needs it. Programs with state directories of their own do not know of each other: give each an ID of its own.
//
// The wait for the lock ends with Serve's ctx, without a grace: nothing has begun.
//
// While a machine waits for the lock, its update is granted: Nebraska counts it as under way. The group's update timeout
// must exceed the longest wait for the lock and the longest restart together (a group of 30 machines, of which 3 restart at a
// time for 5 minutes each, waits 50 minutes), or else the group's other updates stop in safe mode. And its limit of updates
// under way must not be below the lock's.
type FleetLock struct {
	URL     string // of the lock manager, http or https; /v1/pre-reboot and /v1/steady-state are added
	Group   string // "": default
	ID      string // of this machine, unique in the group; "": the host name
	Applier Applier

	Client    *http.Client              // nil: one of our own, with a timeout; redirects are never followed
	Authorize func(*http.Request) error // adds credentials; nil: none. Told of an earlier URL, too, where a lock of that is released
	Poll      time.Duration             // between tries; 0: 30 seconds
}

const (
	fleetPoll    = 30 * time.Second
	fleetTimeout = 30 * time.Second
	fleetRelease = 5 * time.Second // for the one try of Apply itself
)

// Apply waits for the lock, lets Applier apply the offer, and releases the lock.
func (l FleetLock) Apply(ctx context.Context, offer omahaclient.UpdateOffer) error {
	note, err := l.hold(ctx, offer)
	if err != nil {
		return refused(fmt.Errorf("take fleet lock: %w", err))
	}
	if err := l.take(beginning(ctx)); err != nil {
		return fmt.Errorf("take fleet lock: %w", err)
	}
	err = safely(func() error { return l.Applier.Apply(ctx, offer) })
	if errors.Is(err, omahaclient.ErrRestartRequired) || err != nil && ctx.Err() != nil {
		return err // held: the update goes on after the restart
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), fleetRelease)
	defer cancel()
	_ = l.release(limited, note, nil) // or Resume does
	return err
}

// take asks for the lock until it is granted, before ctx ends.
func (l FleetLock) take(ctx context.Context) error {
	for {
		err := l.ask(ctx, preReboot)
		if err == nil {
			return endOf(ctx)
		}
		if wait.For(ctx, l.poll()) != nil {
			return fmt.Errorf("%w; last: %w", endOf(ctx), err)
		}
	}
}

func (l FleetLock) poll() time.Duration {
	if l.Poll > 0 {
		return l.Poll
	}
	return fleetPoll
}

// Restore lets Applier restore.
func (l FleetLock) Restore(ctx context.Context, client *omahaclient.Client, appID string) error {
	return restore(ctx, l.Applier, client, appID)
}

// Resume lets Applier resume, and releases locks that are held without need, for as long as it takes.
func (l FleetLock) Resume(ctx context.Context, client *omahaclient.Client, appID string) error {
	log := resumeLogger(ctx, client).With("app_id", appID)
	if err := resume(ctx, l.Applier, client, appID); errors.Is(err, omahaclient.ErrRestartRequired) || ctx.Err() != nil {
		return err // held over the restart
	} else if err != nil {
		log.Warn("update resumed after a restart", "error", err)
	}
	of := func(held string) bool { return strings.EqualFold(held, appID) }
	for said := false; ; {
		var err error
		// Not beside an Apply: it would lose the lock that it has just got.
		inTurn(ctx, func() { _, err = l.releaseHeld(ctx, client, of) })
		if err != nil && ctx.Err() == nil && !said {
			log.Warn("fleet lock is not released yet", "error", err)
		}
		said = err != nil
		if err := wait.For(ctx, l.poll()); err != nil {
			return err
		}
	}
}

// releaseHeld releases the locks of some apps, where no update of theirs needs them, and returns how many are still held.
func (l FleetLock) releaseHeld(ctx context.Context, client *omahaclient.Client, of func(appID string) bool) (left int, err error) {
	notes, err := fleetNotes(client.StateDir())
	errs := []error{err}
	for _, n := range notes {
		if !of(n.AppID) {
			continue
		}
		needed := func() bool { return underWay(client, n.AppID) }
		if err := l.as(n.fleetKey).release(ctx, n, needed); err != nil || needed() {
			left++
			errs = append(errs, err)
		}
	}
	return left, errors.Join(errs...)
}

// as returns l for a lock that it may have been configured for earlier.
func (l FleetLock) as(key fleetKey) FleetLock {
	if own, err := l.lock(); err != nil || own != key { // not our URL, which may have a user
		l.URL, l.Group, l.ID = key.URL, key.Group, key.ID
	}
	return l
}

// underWay reports whether an update of the app may hold the lock.
func underWay(client *omahaclient.Client, appID string) bool {
	for _, s := range client.Status() {
		if strings.EqualFold(s.AppID, appID) {
			return s.Phase == omahaclient.Offered || s.Phase == omahaclient.RestartPending || s.Phase == omahaclient.Fetching
		}
	}
	return false
}

// releaseForgotten releases what apps hold that have no FleetLock any more.
func (s *serving) releaseForgotten() {
	forgotten := func(appID string) bool { return !s.hasFleetLock(appID) }
	said := false
	for {
		left, err := FleetLock{}.releaseHeld(s.streaming, s.client, forgotten)
		if err != nil && !said && s.streaming.Err() == nil {
			said = true
			s.Logger.Warn("fleet lock of an earlier configuration is not released yet", "error", err)
		}
		if left == 0 || wait.For(s.streaming, fleetPoll) != nil {
			return
		}
	}
}

// hasFleetLock reports whether the app's Applier releases its locks; a foreign one that passes Resume on may.
func (s *serving) hasFleetLock(appID string) bool {
	for _, app := range s.client.Status() {
		if strings.EqualFold(app.AppID, appID) {
			return releases(s.applier, appID)
		}
	}
	return false
}

func releases(a Applier, appID string) bool {
	switch a := a.(type) {
	case Mux:
		return releases(a.applier(appID), appID)
	case *Mux:
		return releases(a.applier(appID), appID)
	case Binary, *Binary:
		return false
	default:
		_, ok := a.(Resumer)
		return ok
	}
}
