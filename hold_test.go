package omahaclient_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// What holds checks back: deferrals, backoffs, refused versions.

func TestDefer_onlyPingsThenOffersAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		o := s.next()
		deferred := time.Now()
		must(t, o.Defer(100*time.Hour))
		synctest.Wait()
		want(t, "phase", status(t, c, appA).Phase, omahaclient.BackingOff)
		want(t, "target", status(t, c, appA).Target, "2.0.0")
		if reason := status(t, c, appA).Reason; !strings.Contains(reason, "deferred until 2000-01-05") {
			t.Errorf("reason %q", reason)
		}
		s.silent(99 * time.Hour)
		want(t, "checks", len(w.checks(appA)), 1)
		wantSchedule(t, w.contacts(appA), deferred, 45*time.Minute, 90*time.Minute) // pings
		o = s.next()
		if d := time.Since(deferred); d < 100*time.Hour || d > 100*time.Hour+time.Second {
			t.Errorf("offered again after %v", d)
		}
		want(t, "version", o.Version, "2.0.0")
		want(t, "attempt", o.Attempt, 2)
		wantFile(t, o.Payloads[0].Path, content(appA, "2.0.0"))
		want(t, "downloads", w.Payloads.Stats("").Requests, 1)
		must(t, o.Ack(nil))
		synctest.Wait()
		want(t, "history", w.history(appA), "granted, downloading, downloaded, error 36, granted, downloading, downloaded, complete")
	})
}

func TestDefer_givesWayToAnotherVersion(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		s := w.updates(w.client(app(appA)))
		must(t, s.next().Defer(100*time.Hour))
		g.Publish(release(appA, "3.0.0"))
		s.silent(99 * time.Hour) // nobody asks
		o := s.next()
		want(t, "version", o.Version, "3.0.0")
		want(t, "attempt", o.Attempt, 1)
	})
}

func TestDefer_nothingIfNotGrantedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		s := w.updates(w.client(app(appA)))
		must(t, s.next().Defer(time.Hour))
		g.Publish(release(appA, "1.0.0"))
		s.silent(100 * time.Hour)
	})
}

// A deferred grant is given back: it does not block the group.
func TestDefer_freesTheGroup(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0").ChangePolicy(func(p *testserver.Policy) { p.MaxUpdates, p.Period = 1, time.Minute })
		c := w.client(app(appA))
		must(t, w.updates(c).next().Defer(1000*time.Hour))
		time.Sleep(2 * time.Minute)
		w.dir = t.TempDir()
		other := w.client(app(appA), omahaclient.WithMachineID("machine-2"))
		must(t, w.updates(other).next().Ack(nil))
	})
}

func TestDefer_forAsLongAsAsked(t *testing.T) {
	for _, tc := range []struct {
		name      string
		d, lo, hi time.Duration
	}{
		{"for nothing: the next scheduled check", 0, 45 * time.Minute, 90 * time.Minute},
		{"for less than nothing: as for nothing", -time.Hour, 45 * time.Minute, 90 * time.Minute},
		{"for less than the schedule's wait", 10 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{"for more than a day", 25 * time.Hour, 25 * time.Hour, 25 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				s := w.updates(w.client(app(appA)))
				o := s.next()
				deferred := time.Now()
				must(t, o.Defer(tc.d))
				o = s.next()
				want(t, "attempt", o.Attempt, 2)
				if took := time.Since(deferred); took < tc.lo || took > tc.hi+time.Second {
					t.Errorf("offered again after %v; want %v to %v", took, tc.lo, tc.hi)
				}
			})
		})
	}
}

// Neither a deferral nor an installation is the finished update that ends what Status says of the last error.
func TestDefer_keepsTheLastError(t *testing.T) {
	for _, tc := range []struct {
		name    string
		verdict func(omahaclient.UpdateOffer) error
		gone    bool
	}{
		{"deferred", func(o omahaclient.UpdateOffer) error { return o.Defer(time.Hour) }, false},
		{"installed", omahaclient.UpdateOffer.Installed, false},
		{"finished", func(o omahaclient.UpdateOffer) error { return o.Ack(nil) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				c := w.client(app(appA))
				s := w.updates(c)
				broken := errors.New("does not start")
				must(t, s.next().Ack(broken))
				must(t, tc.verdict(s.next()))
				want(t, "forgotten at once", status(t, c, appA).LastError == nil, tc.gone)
				s.stop()
				if err := status(t, c, appA).LastError; !tc.gone {
					wantErr(t, err, broken)
				}
			})
		})
	}
}

func TestDefer_survivesARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		o := w.updates(c).next()
		deferred := time.Now()
		must(t, o.Defer(100*time.Hour))
		must(t, c.Close())
		c = w.client(app(appA))
		want(t, "phase", status(t, c, appA).Phase, omahaclient.BackingOff)
		o = w.updates(c).next()
		if d := time.Since(deferred); d < 100*time.Hour || d > 100*time.Hour+15*time.Minute {
			t.Errorf("offered again after %v", d)
		}
		want(t, "attempt", o.Attempt, 2)
		want(t, "downloads", w.Payloads.Stats("").Requests, 1)
	})
}

// A version that fails comes once more at the next scheduled check, then after 1, 2, 4 (and so on) days, give or take 6 hours;
// from disk. Meanwhile the app pings, and checks once in eight mean intervals for another version. What such a
// check is granted goes back at once.
func TestBackoff_ofAVersionThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		o := s.next()
		for i, days := range []int{0, 1, 2, 4} {
			failed, checks := time.Now(), len(w.checks(appA))
			must(t, o.Ack(errors.New("no")))
			if days > 0 {
				want(t, "phase", status(t, c, appA).Phase, omahaclient.BackingOff)
			}
			o = s.next()
			want(t, "attempt", o.Attempt, i+2)
			wait := time.Duration(days) * 24 * time.Hour
			lo, hi := wait-6*time.Hour, wait+6*time.Hour+90*time.Minute
			if days == 0 {
				lo, hi = 45*time.Minute, 90*time.Minute
			}
			if d := time.Since(failed); d < lo || d > hi+time.Second {
				t.Errorf("failure %d: offered again after %v; want %v to %v", i+1, d, lo, hi)
			}
			most := int(time.Since(failed)/(8*45*time.Minute)) + 1
			if n := len(w.checks(appA)) - checks; n > most {
				t.Errorf("failure %d: %d checks meanwhile; want %d at most", i+1, n, most)
			}
		}
		want(t, "downloads", w.Payloads.Stats("").Requests, 1)
		if !strings.Contains(w.history(appA), "granted, error 40, granted, error 40") {
			t.Errorf("early grants are not given back with 40: %s", w.history(appA))
		}
	})
}

func TestBackoff_endsByAnotherVersionAndByCheckNow(t *testing.T) {
	for _, tc := range []struct {
		name    string
		end     func(*testing.T, *testserver.Group, *omahaclient.Client)
		version string
		attempt int
		within  time.Duration
	}{
		{"another version", func(_ *testing.T, g *testserver.Group, _ *omahaclient.Client) { g.Publish(release(appA, "3.0.0")) }, "3.0.0", 1, 12 * time.Hour},
		{"CheckNow", func(t *testing.T, _ *testserver.Group, c *omahaclient.Client) { must(t, c.CheckNow(t.Context())) }, "2.0.0", 3, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				g := w.offering(appA, "2.0.0")
				c := w.client(app(appA))
				s := w.updates(c)
				must(t, s.next().Ack(errors.New("no")))
				must(t, s.next().Ack(errors.New("no")))
				s.silent(2 * time.Hour)
				start := time.Now()
				tc.end(t, g, c)
				o := s.next()
				want(t, "version", o.Version, tc.version)
				want(t, "attempt", o.Attempt, tc.attempt)
				if d := time.Since(start); d > tc.within {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}

// Transfer failures belong to the network, not to the release: the next scheduled check, resuming.
func TestBackoff_notForTransfers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		file := testserver.File{Name: "app.bin", Content: []byte(strings.Repeat("0123456789", 1000))}
		w.group(appA).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{file}})
		path := fileOf(appA, "2.0.0")
		w.Payloads.Fail(path, 1, testserver.FileFault{Cut: true, After: 4000})
		w.Payloads.Fail(path, -1, testserver.FileFault{Status: 404})
		c := w.client(app(appA))
		s := w.updates(c)
		s.silent(30 * time.Hour)
		want(t, "phase", status(t, c, appA).Phase, omahaclient.Idle)
		w.Payloads.Heal()
		must(t, s.next().Ack(nil))
		all := w.Payloads.Requests()
		want(t, "range of the last request", all[len(all)-1].Range, "bytes=4000-9999")
	})
}

func TestBackoff_noLongerThanTheScheduleIfTheServerSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		r := release(appA, "2.0.0")
		r.Action = &testserver.Action{DisablePayloadBackoff: true}
		w.group(appA).Publish(r)
		s := w.updates(w.client(app(appA)))
		o := s.next()
		for range 6 {
			failed := time.Now()
			must(t, o.Ack(errors.New("no")))
			o = s.next()
			if d := time.Since(failed); d > 91*time.Minute {
				t.Errorf("offered again after %v", d)
			}
		}
	})
}

func TestDowngrade_isRefusedByDefault(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.group(appA)
		old := release(appA, "0.9.0")
		old.AnyVersion = true // as servers other than Nebraska may
		g.Publish(old)
		c := w.client(app(appA))
		s := w.updates(c)
		s.silent(7 * 24 * time.Hour)
		if history := w.history(appA); !strings.HasPrefix(history, "granted, error 36, granted, error 36") {
			t.Errorf("history %s", history)
		}
		want(t, "phase", status(t, c, appA).Phase, omahaclient.BackingOff)
		if reason := status(t, c, appA).Reason; !strings.Contains(reason, "WithDowngrades") {
			t.Errorf("reason %q does not name the way out", reason)
		}
		if n := w.Grants(appA); n > 7*24/6+1 {
			t.Errorf("%d grants in a week: each costs the group", n)
		}
		want(t, "downloads", w.Payloads.Stats("").Requests, 0)
		g.Publish(release(appA, "1.0.1"))
		must(t, s.next().Ack(nil))
	})
}

func TestWithDowngrades_takesThem(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := release(appA, "0.9.0")
		old.AnyVersion = true
		w.group(appA).Publish(old)
		o := w.updates(w.client(app(appA, omahaclient.WithDowngrades()))).next()
		want(t, "version", o.Version, "0.9.0")
		must(t, o.Ack(nil))
		w.reaches(appA, testserver.Complete)
	})
}
