package apply

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/pool"
)

// Applier installs an update. Its error is the verdict on the offer, as for UpdateOffer.Ack: nil says installed and
// running, omahaclient.ErrRestartRequired installed and effective at the next start, every other one is reported as the
// failure, with the code that omahaclient.WithCode gave it. An Applier may also settle the offer itself, by Defer for one;
// then its error counts no more.
//
// Apply is called for one offer of an app at a time, for several apps side by side. When ctx ends, it returns soon, with
// an error unless it has just succeeded. The same version may come again: after a crash, and after a failure.
type Applier interface {
	Apply(ctx context.Context, offer omahaclient.UpdateOffer) error
}

// Func is a function as an Applier.
type Func func(ctx context.Context, offer omahaclient.UpdateOffer) error

// Apply calls f.
func (f Func) Apply(ctx context.Context, offer omahaclient.UpdateOffer) error { return f(ctx, offer) }

// Mux has an Applier for each app, by app id (upper and lower case are the same, as for Omaha).
type Mux map[string]Applier

// Apply calls the app's Applier. It fails for an app that has none.
func (m Mux) Apply(ctx context.Context, offer omahaclient.UpdateOffer) error {
	a := m.applier(offer.AppID)
	if a == nil {
		return noApplier(offer.AppID)
	}
	return a.Apply(ctx, offer)
}

// Resume calls the app's Applier, where that is a Resumer.
func (m Mux) Resume(ctx context.Context, client *omahaclient.Client, appID string) error {
	return resume(ctx, m.applier(appID), client, appID)
}

// Restore calls the app's Applier, where that is a Restorer.
func (m Mux) Restore(ctx context.Context, client *omahaclient.Client, appID string) error {
	return restore(ctx, m.applier(appID), client, appID)
}

func (m Mux) applier(appID string) Applier {
	a, _ := m.find(appID)
	return a
}

func (m Mux) find(appID string) (a Applier, found bool) {
	if a, found = m[appID]; found {
		return a, true
	}
	for id, a := range m {
		if strings.EqualFold(id, appID) {
			return a, true
		}
	}
	return nil, false
}

func noApplier(appID string) error {
	return fmt.Errorf("apply %s: the Mux has no Applier for this app: add one under its id", appID)
}

// Resumer is an Applier that has something left to do when its program comes back, such as to probe the new version after
// a restart. Serve calls Resume once for each app, beside the offers. It may take until ctx ends, and returns nil or, to
// have the program restarted once more, an error that is omahaclient.ErrRestartRequired; others are logged.
// An Applier that wraps another passes Resume on.
type Resumer interface {
	Resume(ctx context.Context, client *omahaclient.Client, appID string) error
}

// Restorer is an Applier that has something to put right before all else, such as to start what a crash left stopped. Serve
// calls Restore once for each app, before it applies any offer of the app, and without waiting for one. An error is logged.
// It returns soon when ctx ends. An Applier that wraps another passes Restore on.
type Restorer interface {
	Restore(ctx context.Context, client *omahaclient.Client, appID string) error
}

func restore(ctx context.Context, a Applier, client *omahaclient.Client, appID string) error {
	if r, ok := a.(Restorer); ok {
		return r.Restore(ctx, client, appID)
	}
	return nil
}

func resume(ctx context.Context, a Applier, client *omahaclient.Client, appID string) error {
	if r, ok := a.(Resumer); ok {
		return r.Resume(ctx, client, appID)
	}
	return nil
}

// safely returns what fn returns; a panic of fn becomes an error.
func safely(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &pool.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn()
}

// refused says that an update was refused before anything was replaced. Its code hides those within err: an exit status is
// none of Omaha's codes.
func refused(err error) error { return omahaclient.WithCode(err, omaha.ExitPostInstall) }

// rolledBack says that the version from before was put back.
func rolledBack(err error) error { return omahaclient.WithCode(err, omaha.ExitRolledBack) }
