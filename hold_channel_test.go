package omahaclient_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// onChannel is the usual app at version 1.0.0 on a channel.
func onChannel(name string, opts ...omahaclient.AppOption) omahaclient.Option {
	return omahaclient.WithApp(appA, "1.0.0", append([]omahaclient.AppOption{omahaclient.WithChannel(name)}, opts...)...)
}

// twoChannels offers 2.0.0 on stable and version on beta.
func (w *world) twoChannels(version string) {
	w.offering(appA, "2.0.0")
	r := release(appA, version)
	r.AnyVersion = true
	w.AddGroup(appA, "beta", testserver.AnyArch, testserver.Policy{}).Publish(r)
}

// heldOnBeta are the ways in which a release of beta, 3.0.0 where nothing else is said, comes to hold checks back; each leaves no client.
var heldOnBeta = []struct {
	name  string
	other string // what beta offers
	hold  func(t *testing.T, w *world)
	opts  []omahaclient.AppOption
}{
	{"failed", "3.0.0", func(t *testing.T, w *world) {
		c := w.client(onChannel("beta"))
		s := w.updates(c)
		must(t, s.next().Ack(errors.New("no")))
		must(t, s.next().Ack(errors.New("no")))
		must(t, c.Close())
	}, nil},
	{"deferred", "3.0.0", func(t *testing.T, w *world) {
		c := w.client(onChannel("beta"))
		must(t, w.updates(c).next().Defer(100*time.Hour))
		must(t, c.Close())
	}, nil},
	{"refused as a downgrade", "0.9.0", func(t *testing.T, w *world) {
		c := w.client(onChannel("beta"))
		w.updates(c).silent(time.Hour)
		must(t, c.Close())
	}, nil},
	{"too young", "3.0.0", func(t *testing.T, w *world) {
		c := w.client(onChannel("beta", omahaclient.WithMinAge(100*time.Hour)))
		w.updates(c).silent(time.Hour)
		must(t, c.Close())
	}, []omahaclient.AppOption{omahaclient.WithMinAge(time.Nanosecond)}},
	{"does not come to life", "3.0.0", func(t *testing.T, w *world) {
		c := w.client(onChannel("beta"))
		s := w.updates(c)
		must(t, s.next().Ack(errors.New("no")))
		must(t, s.next().Installed())
		must(t, c.Close())
		for range 2 {
			must(t, w.client(onChannel("beta")).Close())
		} // and the third start, which finds out, is the test's
	}, nil},
}

// Who leaves a channel for its bad release waits no longer because of it.
func TestHold_endsByAnotherChannel(t *testing.T) {
	for _, tc := range heldOnBeta {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.twoChannels(tc.other)
				tc.hold(t, w)
				c := w.client(onChannel("stable", tc.opts...))
				want(t, "phase", status(t, c, appA).Phase, omahaclient.Idle)
				started := time.Now()
				o := w.updates(c).next()
				want(t, "version", o.Version, "2.0.0")
				if took := time.Since(started); took > 3*time.Hour { // two scheduled contacts, for one that must ripen
					t.Errorf("offered after %v", took)
				}
				must(t, o.Ack(nil))
			})
		})
	}
}

// On the same channel it goes on, and so it does where an older version of this library did not note the channel.
func TestHold_goesOnOnTheSameChannel(t *testing.T) {
	for _, tc := range heldOnBeta {
		for _, noted := range []bool{true, false} {
			channel, name := "beta", tc.name
			if !noted {
				channel, name = "stable", tc.name+", channel not noted"
			}
			if !noted && tc.name == "does not come to life" {
				continue // the start that changes the channel notes that it was another one
			}
			t.Run(name, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					w.twoChannels(tc.other)
					tc.hold(t, w)
					if !noted {
						w.forgetChannel()
					}
					c := w.client(onChannel(channel, omahaclient.WithMinAge(100*time.Hour)))
					want(t, "phase", status(t, c, appA).Phase, omahaclient.BackingOff)
					w.updates(c).silent(3 * time.Hour)
				})
			})
		}
	}
}

// forgetChannel makes the wait in the journal one that an older version of this library wrote.
func (w *world) forgetChannel() {
	w.t.Helper()
	d, err := state.Open(w.dir, machine, slog.New(slog.DiscardHandler))
	must(w.t, err)
	must(w.t, d.Journal.Do(strings.ToLower(appA), func(rec *state.App) error {
		rec.Wait.Channel = nil
		return nil
	}))
	must(w.t, d.Close())
}

// The same release fails on the other channel as well: that it failed before counts.
func TestHold_failuresCountOnAnotherChannel(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twoChannels("2.0.0")
		heldOnBeta[0].hold(t, w)
		c := w.client(onChannel("stable"))
		s := w.updates(c)
		o := s.next()
		want(t, "attempt", o.Attempt, 3)
		must(t, o.Ack(errors.New("no")))
		if reason := status(t, c, appA).Reason; !strings.Contains(reason, "failed 3 times") {
			t.Errorf("reason %q", reason)
		}
		s.silent(24 * time.Hour)
	})
}

// An app that followed no channel so far, and one that follows none any more.
func TestHold_endsByAChannelOfItsOwn(t *testing.T) {
	for _, names := range [][2]string{{"", "stable"}, {"stable", ""}} {
		inBubble(t, func(t *testing.T, w *world) {
			w.offering(appA, "2.0.0")
			w.AddGroup(appA, "", testserver.AnyArch, testserver.Policy{}).Publish(release(appA, "2.0.0"))
			c := w.client(onChannel(names[0]))
			must(t, w.updates(c).next().Defer(100*time.Hour))
			must(t, c.Close())
			started := time.Now()
			w.updates(w.client(onChannel(names[1]))).next()
			if took := time.Since(started); took > time.Hour {
				t.Errorf("from %q to %q: offered after %v", names[0], names[1], took)
			}
		})
	}
}
