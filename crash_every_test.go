package omahaclient_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// crashScript leads to transitions of the journal, always in the same order.
type crashScript struct {
	name  string
	app   string                        // its last part
	how   disposition                   // of the release that comes out
	fresh bool                          // begins with an empty state directory
	lives int                           // before the one that is killed
	first string                        // the point that ends those; "" for all complete, or their own end
	until string                        // the point that ends the one that is killed, if it has not died
	begin func(s *story, a *crashedApp) // what else happens before the first life
	life  func(s *story, l *crashLife)  // what is special about the one that is killed
}

func crashScripts() []crashScript {
	return []crashScript{
		{name: "acknowledged", app: "plain", fresh: true},
		{name: "failed twice, then held back and given back", app: "plain", how: failing, until: "after: refuse"},
		{name: "deferred", app: "plain", how: deferring},
		{name: "updated itself", app: "self"},
		{name: "installed", app: "staged"},
		{name: "installed, started", app: "staged", lives: 1},
		{name: "installed, did not start once", app: "staged", how: dead, lives: 1, until: "closed"},
		{name: "installed, did not start three times", app: "staged", how: dead, lives: 3, until: "after: revert"},
		{name: "installed, booted, confirmed", app: "booted", lives: 1},
		{name: "wedged", app: "plain", begin: func(s *story, a *crashedApp) { s.wedge(a) }},
		{name: "event", app: "plain", life: func(s *story, l *crashLife) { l.Event, l.Waits = fmt.Sprintf("0.0.%d", s.lives+1), true }},
		{
			name: "checked on demand while held back", app: "plain", how: failing, lives: 1, first: "after: refuse", until: "verdict failed",
			life: func(_ *story, l *crashLife) { l.CheckNow = true },
		},
		{
			name: "checked in vain while held back", app: "plain", how: failing, lives: 1, first: "after: refuse", until: "after: quiet",
			life: func(s *story, _ *crashLife) {
				s.apps[0].group.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
			},
		},
		{
			name: "removed while an offer was open", app: "leaving",
			begin: func(s *story, a *crashedApp) {
				life := s.spec()
				life.Point, life.Nth = "applying", 1
				s.await(life, "closed")
			},
			until: "after: forget",
			life:  func(_ *story, l *crashLife) { l.Apps = l.Apps[:len(l.Apps)-1] },
		},
		{
			name: "asked to wait", app: "plain",
			begin: func(s *story, _ *crashedApp) { s.Fail(1, testserver.Extra("Retry-After", "1")) },
		},
	}
}

// A child is killed before and after each transaction of its journal, in everything that an update can go through.
func TestCrash_everyTransition(t *testing.T) {
	plan := newCrashPlan(0)
	var all errgroup.Group
	all.SetLimit(atOnce)
	for i, sc := range crashScripts() {
		for _, when := range []string{"before: ", "after: "} {
			all.Go(func() error {
				tellOne(t, plan, uint64(i), func(s *story) { s.follow(sc, when) })
				return nil
			})
		}
	}
	_ = all.Wait()
	t.Logf("kills by point:\n%s", plan)
	for _, what := range []string{
		"openState", "open", "started", "handOver", "succeed", "fail", "postpone", "install", "resumePending", "confirm", "revert",
		"refuse", "quiet", "wedged", "delivered", "SendEvent", "lift", "postponeChecks", "retire", "forget",
	} {
		for _, when := range []string{"before: ", "after: "} {
			if plan.hits[when+what] == 0 {
				t.Errorf("no child died %s%s", when, what)
			}
		}
	}
}

// follow tells the script again and again, with a child that dies one transaction later each time, until none dies.
func (s *story) follow(sc crashScript, when string) {
	s.apps = slices.DeleteFunc(s.apps, func(a *crashedApp) bool {
		stays := sc.app == "leaving" && a.ID == "io.example.self" // where one leaves, another must stay
		return !stays && !strings.HasSuffix(a.ID, sc.app)
	})
	app := s.apps[len(s.apps)-1]
	if sc.fresh {
		life := s.spec()
		life.Point, life.Nth = when+"openState", 1
		s.await(life, "")
	}
	s.settle()
	// The order of transitions is not always the same, so they go by their names. A first life shows most of them.
	points, _ := s.tell(sc, app, "", 0)
	for i := 0; i < len(points); i++ {
		if !strings.HasPrefix(points[i], when) {
			continue
		}
		// A transition may also ride in another one's transaction: then its own point does not come in this life.
		for n, left := 1, maxTries; n <= maxOccurrences && left > 0; {
			s.settle()
			passed, killed := s.tell(sc, app, points[i], n)
			if left--; killed {
				n, left = n+1, 1
			}
			for _, p := range passed {
				if !slices.Contains(points, p) {
					points = append(points, p)
				}
			}
		}
	}
	s.settle()
	s.check()
}

const (
	maxOccurrences = 3 // of a transition that are looked for in one life
	maxTries       = 3 // lives in which the first one is looked for
)

// tell tells the script with a child that dies the nth time that it passes a point. It returns which points it has passed, and
// whether it died.
func (s *story) tell(sc crashScript, a *crashedApp, point string, n int) (passed []string, killed bool) {
	s.publish(a, sc.how)
	if sc.begin != nil {
		sc.begin(s, a)
	}
	for range sc.lives {
		s.await(s.spec(), sc.first)
	}
	life := s.spec()
	life.Point, life.Nth = point, n
	life.Deploy = 30 * time.Millisecond // for the reports of the download to be out of the way
	if sc.life != nil {
		sc.life(s, &life)
	}
	return s.await(life, sc.until)
}
