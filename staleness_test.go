package omahaclient_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

func lasting(x *trust.Index) { x.Expires = x.Issued.Add(365 * day) }

// A server that offers the release once, without its statement, or with another file, has not offered it.
func TestMaxStaleness_offeredButNotToBeHad(t *testing.T) {
	for _, tt := range []struct {
		name   string
		offer  func(w *world, p *publisher, g *testserver.Group)
		reason string
	}{
		{"once, unsigned", func(_ *world, _ *publisher, g *testserver.Group) {
			g.Publish(release(appA, "2.0.0"))
			simPass(30 * time.Minute)
			g.Publish(release(appA, "1.0.0"))
		}, "does not offer it (it did once: "},
		{"always unsigned", func(_ *world, _ *publisher, g *testserver.Group) { g.Publish(release(appA, "2.0.0")) }, "cannot be had: "},
		{"always spoilt", func(w *world, p *publisher, g *testserver.Group) {
			p.releases(w, g, appA, "2.0.0", 2)
			w.Payloads.Put(fileOf(appA, "2.0.0"), []byte("something else"))
		}, "cannot be had: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := newPublisher(t)
				g := w.group(appA)
				p.announces(w, "2.0.0", 2, lasting)
				var a alarms
				c := w.client(p.trusted(appA, omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath)), a.after(day))
				s := w.updates(c)
				tt.offer(w, p, g)
				s.silent(10*day - time.Hour)
				// One alarm a day, whatever is tried in between.
				if n := len(a.raised()); n < 7 || n > 10 {
					t.Fatalf("%d alarms: %+v", n, a.raised())
				}
				a.wantLast(t, len(a.raised()), "version 2.0.0 is released, and ")
				a.wantLast(t, len(a.raised()), tt.reason)
			})
		})
	}
}

// While the server is not asked it cannot offer: not what was released after an offer that waits, either.
func TestMaxStaleness_olderOfferWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		p.releases(w, w.group(appA), appA, "2.0.0", 2)
		p.announces(w, "2.0.0", 2, lasting)
		var a alarms
		c := w.client(p.trusted(appA, omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath)), a.after(day))
		s := w.updates(c)
		o := s.next()
		p.announces(w, "3.0.0", 3, lasting)
		s.silent(3 * day)
		must(t, o.Defer(5*day))
		s.silent(4 * day)
		a.wantLast(t, 0, "")
	})
}

// While a release ripens the server is not to blame; but it chooses what ripens, before anything is verified.
func TestMaxStaleness_minAge(t *testing.T) {
	for _, tt := range []struct {
		name  string
		offer func(w *world, p *publisher, g *testserver.Group, s *stream)
	}{
		{"honest", func(w *world, p *publisher, g *testserver.Group, s *stream) {
			s.silent(day) // the rollout has not come to this machine yet
			p.releases(w, g, appA, "2.0.0", 2)
		}},
		{"another version before each is ripe", func(_ *world, _ *publisher, g *testserver.Group, s *stream) {
			for n := range 10 {
				g.Publish(release(appA, fmt.Sprintf("1.9.%d", n)))
				s.silent(20 * time.Hour)
			}
		}},
		{"the very version with another file before each is ripe", func(_ *world, _ *publisher, g *testserver.Group, s *stream) {
			for n := range 10 {
				g.Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: fmt.Append(nil, n)}}})
				s.silent(20 * time.Hour)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := newPublisher(t)
				g := w.offering(appA, "1.0.0")
				p.announces(w, "2.0.0", 2, lasting)
				released := time.Now()
				var a alarms
				index := omahaclient.WithReleaseIndex(w.Payloads.URL() + indexPath)
				s := w.updates(w.client(p.trusted(appA, index, omahaclient.WithMinAge(2*day)), a.after(2*day)))
				tt.offer(w, p, g, s)
				if tt.name == "honest" {
					must(t, s.next().Ack(nil))
					a.wantLast(t, 0, "")
					return
				}
				a.wantLast(t, 3, "version 2.0.0 is released, and ") // after 4, 6 and 8 of 8.3 days
				if since := a.raised()[0].Since.Sub(released); since < 0 || since > 2*time.Hour {
					t.Errorf("since %v after the release", since)
				}
			})
		})
	}
}

// Nor does a server that never offers the same twice keep the alarm down without a minimum age.
func TestMaxStaleness_anotherVersionEachTime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		g := w.offering(appA, "1.0.0")
		p.announces(w, "2.0.0", 2, lasting)
		var a alarms
		s := w.updates(w.client(p.trusted(appA, omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath)), a.after(day)))
		for n := range 200 {
			g.Publish(release(appA, fmt.Sprintf("1.9.%d", n)))
			s.silent(30 * time.Minute)
		}
		if n := len(a.raised()); n < 3 {
			t.Errorf("%d alarms in 100 hours", n)
		}
	})
}

// knew puts into the journal what an earlier process knew.
func (w *world) knew(f state.Fresh) {
	w.t.Helper()
	d, err := state.Open(w.dir, machine, slog.New(slog.DiscardHandler))
	must(w.t, err)
	must(w.t, d.Journal.Do(strings.ToLower(appA), func(rec *state.App) error { return rec.Watch(f) }))
	must(w.t, d.Close())
}

// A clock that ran ahead once, and was put back, silences nothing.
func TestMaxStaleness_clockPutBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		w.knew(state.Fresh{Answer: time.Now().Add(3650 * day), Head: time.Now().Add(3650 * day)})
		w.Offline(true)
		var a alarms
		w.updates(w.client(app(appA), a.after(3*day))).silent(4 * day)
		a.wantLast(t, 1, "no authentic answer")
	})
}

// A release that runs by now is kept back by nobody, even before the index could be read again.
func TestMaxStaleness_runsByNow(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		w.offering(appA, "2.0.0")
		w.knew(state.Fresh{Answer: time.Now(), Head: time.Now(), Version: "2.0.0", Behind: time.Now().Add(-10 * day)})
		var a alarms
		index := omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath, p.public) // which is not there
		w.updates(w.client(appAt(appA, "2.0.0", index), a.after(3*day))).silent(2 * day)
		a.wantLast(t, 0, "")
	})
}

// An index that is named for the first time is not missing since the first start.
func TestMaxStaleness_newIndex(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		w.offering(appA, "1.0.0")
		var a alarms
		c := w.client(app(appA), a.after(3*day))
		w.updates(c).silent(9 * day)
		must(t, c.Close())
		index := omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath, p.public) // which is not there yet
		w.updates(w.client(app(appA, index), a.after(3*day))).silent(2 * day)
		a.wantLast(t, 0, "")
	})
}

// A server that keeps a cron job waiting until its time is up does not keep the alarm down.
func TestMaxStaleness_roundsCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		var a alarms
		c := w.client(app(appA), a.after(3*day))
		must(t, w.once(c).closed())
		w.Fail(-1, testserver.Fault{Delay: time.Hour})
		for range 4 {
			simPass(day)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			for range c.UpdatesOnce(ctx) {
			}
			cancel()
		}
		a.wantLast(t, 1, "no authentic answer")
	})
}

// An index that is the same as before wears out no flash.
func TestReleaseIndex_writesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		w.offering(appA, "1.0.0")
		p.announces(w, "1.0.0", 1, lasting)
		s := w.updates(w.client(p.trusted(appA, omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath))))
		s.silent(2 * time.Hour)
		dirs, err := filepath.Glob(filepath.Join(w.dir, "trust", "*"))
		must(t, err)
		want(t, "folders", len(dirs), 1)
		before, err := os.Stat(dirs[0])
		must(t, err)
		s.silent(day)
		after, err := os.Stat(dirs[0])
		must(t, err)
		want(t, "changed", after.ModTime(), before.ModTime())
	})
}

// What is granted at the first opportunity, after a gate that was closed for long, is not kept back while it is fetched.
func TestMaxStaleness_grantedAfterLong(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		p.releases(w, w.group(appA), appA, "2.0.0", 2)
		p.announces(w, "2.0.0", 2, lasting)
		opens := time.Now().Add(10 * day)
		gate := omahaclient.WithGate(func(_ string, now time.Time) (bool, time.Time) { return !now.Before(opens), opens })
		w.Payloads.FailFunc(func(testserver.FileRequest) testserver.FileFault { return testserver.FileFault{Delay: time.Minute / 2} })
		var a alarms
		c := w.client(p.trusted(appA, omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath)), a.after(3*day), gate)
		must(t, w.updates(c).next().Ack(nil))
		a.wantLast(t, 0, "")
	})
}
