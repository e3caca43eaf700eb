package omahaclient_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// wantUniform wants waits that lie within a range and reach into every fifth of it.
func wantUniform(t *testing.T, what string, waits []time.Duration, lo, hi time.Duration) {
	t.Helper()
	var fifths [5]int
	for _, d := range waits {
		if d < lo || d > hi {
			t.Errorf("%s: %v is not within %v to %v", what, d, lo, hi)
			continue
		}
		fifths[min(5*(d-lo)/(hi-lo), 4)]++
	}
	for _, n := range fifths {
		if n < len(waits)/20 {
			t.Errorf("%s: %d waits by fifths of the range: %v; want about as many in each", what, len(waits), fifths)
			return
		}
	}
}

// gaps are the times between contacts.
func gaps(contacts []contact) []time.Duration {
	var list []time.Duration
	for i := range len(contacts) - 1 {
		list = append(list, contacts[i+1].at.Sub(contacts[i].at))
	}
	return list
}

func TestSchedule_defaults(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0") // no update
		c := w.client(app(appA))
		var firsts []time.Duration
		for range 100 { // each stream starts with First
			start := time.Now()
			s := w.updates(c)
			n := len(w.checks(appA))
			w.wait("first check", func() bool { return len(w.checks(appA)) > n })
			firsts = append(firsts, time.Since(start))
			s.stop()
		}
		wantUniform(t, "first check", firsts, 5*time.Minute, 15*time.Minute)

		s := w.updates(c)
		n := len(w.checks(appA))
		s.silent(14 * 24 * time.Hour)
		checks := w.checks(appA)[n:]
		wantUniform(t, "further checks", gaps(checks), 45*time.Minute, 90*time.Minute)
		want(t, "install source", checks[0].source, "scheduler")
	})
}

func TestSchedule_asGiven(t *testing.T) {
	for _, tc := range []struct {
		name                             string
		schedule                         omahaclient.Schedule
		firstLo, firstHi, waitLo, waitHi time.Duration
	}{
		{
			"milliseconds", omahaclient.Schedule{FirstMin: 2 * time.Millisecond, FirstMax: 4 * time.Millisecond, Min: 20 * time.Millisecond, Max: 30 * time.Millisecond},
			2 * time.Millisecond, 4 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond,
		},
		{
			"months", omahaclient.Schedule{FirstMin: 600 * time.Hour, FirstMax: 700 * time.Hour, Min: 800 * time.Hour, Max: 900 * time.Hour},
			600 * time.Hour, 700 * time.Hour, 800 * time.Hour, 900 * time.Hour,
		},
		{
			"zero fields", omahaclient.Schedule{FirstMax: 6 * time.Minute, Min: 80 * time.Minute},
			5 * time.Minute, 6 * time.Minute, 80 * time.Minute, 90 * time.Minute,
		},
		{
			"no range", omahaclient.Schedule{FirstMin: time.Second, FirstMax: time.Second, Min: time.Minute, Max: time.Minute},
			time.Second, time.Second, time.Minute, time.Minute,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "1.0.0")
				start := time.Now()
				s := w.updates(w.client(app(appA), omahaclient.WithSchedule(tc.schedule)))
				s.silent(tc.firstHi + 20*tc.waitHi)
				checks := w.checks(appA)
				if first := checks[0].at.Sub(start); first < tc.firstLo || first > tc.firstHi {
					t.Errorf("first check after %v", first)
				}
				if len(checks) < 20 {
					t.Errorf("%d checks", len(checks))
				}
				for _, d := range gaps(checks) {
					if d < tc.waitLo || d > tc.waitHi {
						t.Errorf("%v between checks; want %v to %v", d, tc.waitLo, tc.waitHi)
					}
				}
			})
		})
	}
}

func TestSchedule_afterAnAttempt(t *testing.T) {
	for _, tc := range []struct {
		name    string
		opts    []omahaclient.Option
		attempt func(*world, omahaclient.UpdateOffer) error
		lo, hi  time.Duration // until the next check
	}{
		{"finished", nil, func(_ *world, o omahaclient.UpdateOffer) error { return o.Ack(nil) }, time.Minute, time.Minute},
		{
			"finished, short schedule",
			[]omahaclient.Option{omahaclient.WithSchedule(omahaclient.Schedule{Min: 20 * time.Second, Max: 30 * time.Second})},
			func(_ *world, o omahaclient.UpdateOffer) error { return o.Ack(nil) }, 20 * time.Second, 30 * time.Second,
		},
		{"failed", nil, func(_ *world, o omahaclient.UpdateOffer) error { return o.Ack(exitError(1)) }, 45 * time.Minute, 90 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				s := w.updates(w.client(append(tc.opts, app(appA))...))
				o := s.next()
				time.Sleep(10 * tc.hi) // the verdict counts, not the check before it
				done, n := time.Now(), len(w.checks(appA))
				must(t, tc.attempt(w, o))
				w.wait("another check", func() bool { return len(w.checks(appA)) > n })
				if d := time.Since(done); d < tc.lo || d > tc.hi+time.Second {
					t.Errorf("the next check came after %v; want %v to %v", d, tc.lo, tc.hi)
				}
			})
		})
	}
}

func TestSchedule_afterAFailedFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.Payloads.Remove(fileOf(appA, "2.0.0"))
		s := w.updates(w.client(app(appA)))
		s.silent(24 * time.Hour) // a transfer is tried again at each scheduled check
		wantSchedule(t, w.checks(appA), w.checks(appA)[0].at, 45*time.Minute, 90*time.Minute)
		w.Payloads.Put(fileOf(appA, "2.0.0"), content(appA, "2.0.0"))
		must(t, s.next().Ack(nil))
	})
}

// Floors come one at a time: each success is followed by another check soon.
func TestSchedule_floorsFollowEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "4.0.0")
		g.AddFloor(release(appA, "2.0.0"), "migration")
		g.AddFloor(release(appA, "3.0.0"), "")
		s := w.updates(w.client(app(appA)))
		current := "1.0.0"
		var start time.Time
		for _, version := range []string{"2.0.0", "3.0.0", "4.0.0"} {
			o := s.next()
			if start.IsZero() {
				start = time.Now()
			}
			want(t, "version", o.Version, version)
			want(t, "current version", o.CurrentVersion, current)
			must(t, o.Ack(nil))
			current = version
		}
		if took := time.Since(start); took > 3*time.Minute {
			t.Errorf("it took %v", took)
		}
		s.silent(24 * time.Hour)
		want(t, "history", w.history(appA), strings.Repeat("granted, downloading, downloaded, complete, ", 2)+"granted, downloading, downloaded, complete")
	})
}

func TestRetryAfter_postponesTheNextCheck(t *testing.T) {
	header := func(key, value string) testserver.Fault { return testserver.Extra(key, value) }
	for _, tc := range []struct {
		name   string
		scheme string
		fault  testserver.Fault
		lo, hi time.Duration // until the next check
	}{
		{"on a good answer", "http", header("Retry-After", "36000"), 10 * time.Hour, 10 * time.Hour},
		{"as a date", "http", header("Retry-After", "Sat, 01 Jan 2000 12:00:00 GMT"), 11 * time.Hour, 12 * time.Hour},
		{"shorter than the schedule", "http", header("Retry-After", "60"), 45 * time.Minute, 90 * time.Minute},
		{"longer than a day", "http", header("Retry-After", "9999999"), 24 * time.Hour, 24 * time.Hour},
		{"on a 503", "http", testserver.StatusFault(http.StatusServiceUnavailable, "Retry-After", "36000"), 10 * time.Hour, 10 * time.Hour},
		{"X-Retry-After by https", "https", header("X-Retry-After", "36000"), 10 * time.Hour, 10 * time.Hour},
		{"X-Retry-After by http", "http", header("X-Retry-After", "36000"), 45 * time.Minute, 90 * time.Minute},
		{"X-Retry-After longer than a day", "https", header("X-Retry-After", "9999999"), 24 * time.Hour, 24 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "1.0.0")
				w.Fail(1, tc.fault)
				endpoint := strings.Replace(w.URL(), "http:", tc.scheme+":", 1)
				c, err := omahaclient.New(endpoint, w.options(app(appA))...)
				must(t, err)
				defer c.Close()
				s := w.updates(c)
				s.silent(40 * time.Hour)
				s.stop()
				if d := gaps(w.checks(appA))[0]; d < tc.lo || d > tc.hi+time.Second {
					t.Errorf("the next check came after %v; want %v to %v", d, tc.lo, tc.hi)
				}
			})
		})
	}
}

// It is one server: what it asks for holds for the apps that it was not asked about, and for no CheckNow.
func TestRetryAfter_isForEveryApp(t *testing.T) {
	for name, fault := range map[string]testserver.Fault{
		"with an answer": testserver.Extra("Retry-After", "36000"),
		"in place of it": testserver.StatusFault(http.StatusServiceUnavailable, "Retry-After", "36000"),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "1.0.0")
				w.offering(appB, "1.0.0")
				c := w.client(app(appA), app(appB))
				s := w.updates(c)
				w.Fail(1, fault)
				asked := time.Now()
				_ = c.CheckNow(t.Context(), appA)
				synctest.Wait()
				until := asked.Add(10 * time.Hour)
				if st := status(t, c, appB); st.NextCheck.Before(until) || !strings.Contains(st.Reason, "server asked") {
					t.Errorf("next check at %v, because of %q", st.NextCheck, st.Reason)
				}
				s.silent(9 * time.Hour)
				want(t, "checks of the other", len(w.checks(appB)), 0)
				s.stop()
				must(t, c.Close())
				c = w.client(app(appA), app(appB))
				s = w.updates(c)
				s.silent(50 * time.Minute)
				want(t, "checks of the other", len(w.checks(appB)), 0)
				must(t, c.CheckNow(t.Context(), appB))
				want(t, "checks of the other", len(w.checks(appB)), 1)
				s.stop()
			})
		})
	}
}

// A round asks about each app once, although the answer about the first asks for a delay.
func TestRetryAfter_doesNotHoldUpARound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "1.0.0")
		w.Fail(-1, testserver.Extra("Retry-After", "36000"))
		c := w.client(app(appA), app(appB))
		start := time.Now()
		s := w.once(c)
		must(t, s.next().Ack(nil))
		s.closed()
		if took := time.Since(start); took > time.Hour {
			t.Errorf("it took %v", took)
		}
	})
}

func TestRetryAfter_survivesARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		w.Fail(1, testserver.Extra("Retry-After", "36000"))
		c := w.client(app(appA))
		s := w.updates(c)
		w.wait("a check", func() bool { return len(w.checks(appA)) == 1 })
		synctest.Wait()
		asked := time.Now()
		s.stop()
		must(t, c.Close())
		c = w.client(app(appA))
		w.updates(c)
		time.Sleep(30 * time.Minute)
		if reason := status(t, c, appA).Reason; !strings.Contains(reason, "server asked") {
			t.Errorf("reason %q does not speak of the server", reason)
		}
		w.wait("another check", func() bool { return len(w.checks(appA)) == 2 })
		if d := time.Since(asked); d < 10*time.Hour || d > 10*time.Hour+time.Minute {
			t.Errorf("it came after %v", d)
		}
		must(t, c.CheckNow(t.Context(), appA)) // ignores it
		w.Fail(1, testserver.Extra("Retry-After", "36000"))
		must(t, c.CheckNow(t.Context(), appA))
		must(t, c.CheckNow(t.Context(), appA))
		want(t, "checks", len(w.checks(appA)), 5)
	})
}
