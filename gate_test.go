package omahaclient_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// What waits before the grant: WithGate and WithMinAge.

// nights is a maintenance window from 2 to 4 o'clock.
func nights(_ string, now time.Time) (open bool, next time.Time) {
	start := time.Date(now.Year(), now.Month(), now.Day(), 2, 0, 0, 0, now.Location())
	if hours := now.Sub(start); hours >= 0 && hours < 2*time.Hour {
		return true, time.Time{}
	}
	if now.After(start) {
		start = start.AddDate(0, 0, 1)
	}
	return false, start
}

func TestWithGate_closedOnlyPings(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		start := time.Now()
		w.offering(appA, "2.0.0")
		c := w.client(app(appA), omahaclient.WithGate(func(string, time.Time) (bool, time.Time) { return false, time.Time{} }))
		s := w.updates(c)
		s.silent(50 * time.Hour)
		want(t, "checks", len(w.checks(appA)), 0)
		want(t, "grants", w.Grants(appA), 0)
		wantSchedule(t, w.contacts(appA), start, 45*time.Minute, 90*time.Minute) // pings, and asked again at each
		if last := w.contacts(appA); !last[len(last)-1].Ping {
			t.Error("no ping")
		}
		want(t, "phase", status(t, c, appA).Phase, omahaclient.Idle)
		if reason := status(t, c, appA).Reason; !strings.Contains(reason, "gate is closed") {
			t.Errorf("reason %q", reason)
		}
	})
}

func TestWithGate_opensInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) { // a bubble starts at midnight, UTC
		g := w.offering(appA, "2.0.0")
		utc := func(id string, now time.Time) (bool, time.Time) { return nights(id, now.UTC()) }
		c := w.client(app(appA), omahaclient.WithGate(utc))
		s := w.updates(c)
		time.Sleep(time.Hour)
		if reason := status(t, c, appA).Reason; !strings.Contains(reason, "until 2000-01-01T02:00:00Z") {
			t.Errorf("reason %q does not say until when", reason)
		}
		for day := range 3 {
			must(t, s.next().Ack(nil))
			now := time.Now().UTC()
			want(t, "day", now.Day(), day+1)
			want(t, "hour", now.Hour(), 2)
			if now.Minute() > 2 { // not all machines at once, yet soon
				t.Errorf("taken at %v", now)
			}
			time.Sleep(3 * time.Hour)
			g.Publish(release(appA, fmt.Sprintf("2.0.%d", day+1)))
		}
		for _, check := range w.checks(appA) {
			if hour := check.at.UTC().Hour(); hour < 2 || hour > 3 {
				t.Errorf("check at %v, out of the window", check.at.UTC())
			}
		}
	})
}

// The gate knows which app it is for, and when; it is asked before each scheduled check and for none by CheckNow.
func TestWithGate_isAskedPerApp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "2.0.0")
		var mu sync.Mutex
		asked := map[string]int{}
		c := w.client(app(appA), app(appB), omahaclient.WithGate(func(id string, now time.Time) (bool, time.Time) {
			mu.Lock()
			defer mu.Unlock()
			asked[id]++
			if !now.Equal(time.Now()) {
				t.Errorf("asked for %v at %v", now, time.Now())
			}
			return id == appB, time.Time{}
		}))
		s := w.updates(c)
		o := s.next()
		want(t, "app", o.AppID, appB)
		must(t, o.Ack(nil))
		s.silent(10 * time.Hour)
		want(t, "A's checks", len(w.checks(appA)), 0)
		mu.Lock()
		before := asked[appA]
		want(t, "questions for B", asked[appB], len(w.checks(appB)))
		want(t, "questions for A", before, len(w.contacts(appA)))
		mu.Unlock()
		must(t, c.CheckNow(t.Context(), appA))
		want(t, "app", s.next().AppID, appA)
		mu.Lock()
		want(t, "questions by CheckNow", asked[appA], before)
		mu.Unlock()
	})
}

func TestWithMinAge_takesOnlyWhatHasRipened(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		c := w.client(app(appA, omahaclient.WithMinAge(50*time.Hour)))
		s := w.updates(c)
		w.reaches(appA, testserver.Error) // given back
		first := time.Now()
		synctest.Wait()
		want(t, "code", w.instance(appA).ErrorCode, 36)
		want(t, "phase", status(t, c, appA).Phase, omahaclient.BackingOff)
		if reason := status(t, c, appA).Reason; !strings.Contains(reason, "WithMinAge") {
			t.Errorf("reason %q", reason)
		}
		s.silent(49 * time.Hour)
		want(t, "grants meanwhile", w.Grants(appA), 1) // pings only
		want(t, "downloads meanwhile", w.Payloads.Stats("").Requests, 0)
		s.stop()
		must(t, c.Close())

		c = w.client(app(appA, omahaclient.WithMinAge(50*time.Hour))) // the age survives a restart
		s = w.updates(c)
		o := s.next()
		if d := time.Since(first); d < 50*time.Hour || d > 50*time.Hour+16*time.Minute {
			t.Errorf("taken after %v", d)
		}
		want(t, "version", o.Version, "2.0.0")
		must(t, o.Ack(nil))

		g.Publish(release(appA, "3.0.0")) // which ripens anew
		s.silent(49 * time.Hour)
		want(t, "version", s.next().Version, "3.0.0")
	})
}

// A release that is replaced while it ripens is never taken.
func TestWithMinAge_anotherReleaseStartsAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		s := w.updates(w.client(app(appA, omahaclient.WithMinAge(50*time.Hour))))
		s.silent(40 * time.Hour)
		g.Publish(release(appA, "2.0.1"))
		s.silent(50 * time.Hour)
		want(t, "version", s.next().Version, "2.0.1")
		want(t, "downloads of the first", w.Payloads.Stats(fileOf(appA, "2.0.0")).Requests, 0)
	})
}
