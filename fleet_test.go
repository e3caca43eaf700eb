package omahaclient_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// simTally counts what the server is asked for, without remembering it.
type simTally struct {
	mu                      sync.Mutex // guards what follows
	requests, checks, pings int
	events                  map[string]int
}

func (w *simWorld) tally() *simTally {
	c := &simTally{events: map[string]int{}}
	w.FailFunc(func(r testserver.Request) testserver.Fault {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests++
		for _, a := range r.Apps {
			if a.Check {
				c.checks++
			} else if a.Ping {
				c.pings++
			}
			for _, e := range a.Events {
				c.events[simEvent(e)]++
			}
		}
		return testserver.Fault{}
	})
	return c
}

// fleet starts machines that all do the same with what they are offered.
func (w *simWorld) fleet(n int, verdict simVerdict) []*simMachine {
	fleet := make([]*simMachine, n)
	for i := range fleet {
		m := w.machine(fmt.Sprintf("machine-%03d", i))
		m.decides(verdict)
		m.start(simAppAt("1.0.0"))
		m.run()
		fleet[i] = m
	}
	return fleet
}

// grants are the times of all grants, by the server's record.
func (w *simWorld) grants() (times []time.Time) {
	for _, i := range w.Instances(simApp) {
		for _, e := range i.History {
			if e.Status == testserver.Granted {
				times = append(times, e.Time)
			}
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// What a failing release costs the quota of a group of 200 machines: next to nothing of it is spent on grants that are given
// back, and no machine tries oftener than its backoff allows.
func TestFleet_failingReleaseAndTheQuota(t *testing.T) {
	const machines, perPeriod, period = 200, 2, 15 * time.Minute
	span := time.Duration(simDeep(1, 6)) * simDay
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{MaxUpdates: perPeriod, Period: period}), "2.0.0")
		tally := w.tally()
		w.fleet(machines, simFails)
		simPass(span)

		attempts, backs, tried := 0, 0, 0
		for _, i := range w.Instances(simApp) {
			failures := simErrors(i, 1)
			for n := 2; n < len(failures); n++ {
				if wait := failures[n].Sub(failures[n-1]); wait < 18*time.Hour {
					t.Errorf("%s: attempt %d comes %v after the one before", i.MachineID, n+1, wait)
				}
			}
			attempts += len(failures)
			tried += min(len(failures), 1)
			backs += len(simErrors(i, 40))
			if i.InProgress {
				t.Errorf("%s is left in progress: %s", i.MachineID, simHistory(i))
			}
		}
		grants, quota := len(w.grants()), perPeriod*int(span/period)
		t.Logf("%d machines in %v: %d requests, %d checks, %d pings; %d of %d grants used: %d attempts by %d machines, %d given back (%.0f %%)",
			machines, span, tally.requests, tally.checks, tally.pings, grants, quota, attempts, tried, backs, 100*float64(backs)/float64(grants))
		simWant(t, "grants", grants, attempts+backs)
		simWant(t, "downloads", w.Payloads.Stats("").Requests, tried)
		simWant(t, "failures reported", tally.events["3/0:1"]+tally.events["3/0:40"], grants)
		if tried < quota/2 && tried < machines {
			t.Errorf("%d machines had their try; want half of the quota of %d, or all", tried, quota)
		}
		if limit := machines * int(span/(9*time.Hour)); backs > limit || span == simDay && backs*20 > grants {
			t.Errorf("%d of %d grants were given back; want at most a twentieth on the first day, and %d at all", backs, grants, limit)
		}
	}, testserver.WithLog(0))
}

// A group in safe mode lets one machine go first. What opens the gate for the others is a verdict of one that tried, even
// where machines back off, wait for their window or are killed in between; and none of them gets the group switched off.
func TestFleet_safeModesCanaryGateHolds(t *testing.T) {
	machines := simDeep(40, 200)
	simulate(t, func(t *testing.T, w *simWorld) {
		g := w.channel(testserver.Policy{SafeMode: true, MaxUpdates: 4, Period: 15 * time.Minute, Timeout: time.Hour})
		simPublish(g, "2.0.0")
		waiting := w.machine("waits-for-its-window")
		waiting.start(simAppAt("1.0.0"), omahaclient.WithGate(func(string, time.Time) (bool, time.Time) { return false, time.Time{} }))
		waiting.run()
		fleet := w.fleet(machines, func(o omahaclient.UpdateOffer) error {
			if o.Version == "2.0.0" {
				return o.Ack(errSimBroken)
			}
			return nil // somebody else's, below
		})
		simPass(12 * time.Hour)
		simFirstVerdict(t, w, "2.0.0", 1)

		// The fix: the first machine takes 50 minutes for it, and its program is killed after 20.
		simPublish(g, "3.0.0")
		canary := simHolder(t, fleet, 12*time.Hour)
		simPass(20 * time.Minute)
		canary.kill()
		canary.start(simAppAt("1.0.0"))
		canary.run()
		simPass(30 * time.Minute)
		simWant(t, "machines with a grant while the canary tries", simGranted(w, "3.0.0"), 1)
		simWant(t, "attempt", canary.last().Attempt, 2)
		for _, m := range fleet {
			m.decides(simInstalls)
		}
		simNoError(t, "ack", canary.last().Ack(nil))
		opened := time.Now()
		// A machine that backs off asks once in 9 hours or a little more, and may find the quota of the moment used up once or twice.
		simUntil(t, "all have the fix", time.Duration(machines/4)*15*time.Minute+40*time.Hour, func() bool {
			return !slices.ContainsFunc(fleet, func(m *simMachine) bool { return m.status().Version != "3.0.0" })
		})
		t.Logf("%d machines, of which %d backed off from 2.0.0, had the fix %v after the canary's verdict", machines, simGranted(w, "2.0.0"), time.Since(opened))
		simFirstVerdict(t, w, "3.0.0", 0)
		simWant(t, "group switched off", g.Policy().Disabled, false)
		simWant(t, "grants to the machine that waits", waiting.record().Grants, 0)
	}, testserver.WithLog(0))
}

// simFirstVerdict checks that the first verdict on a version, which opens the gate, came from a machine that tried it.
func simFirstVerdict(t *testing.T, w *simWorld, version string, code int) {
	t.Helper()
	var first testserver.Entry
	for _, i := range w.Instances(simApp) {
		for _, e := range i.History {
			final := e.Status == testserver.Error || e.Status == testserver.Complete
			if final && e.Version == version && (first.Time.IsZero() || e.Time.Before(first.Time)) {
				first = e
			}
		}
	}
	if first.Time.IsZero() || first.ErrorCode != code {
		t.Errorf("first verdict on %s: %+v; want code %d", version, first, code)
	}
}

// simGranted counts the machines that were ever granted a version.
func simGranted(w *simWorld, version string) (n int) {
	for _, i := range w.Instances(simApp) {
		if slices.ContainsFunc(i.History, func(e testserver.Entry) bool { return e.Version == version }) {
			n++
		}
	}
	return n
}

// simHolder waits for the machine that holds version 3.0.0.
func simHolder(t *testing.T, fleet []*simMachine, limit time.Duration) (holder *simMachine) {
	t.Helper()
	simUntil(t, "the canary's offer", limit, func() bool {
		for _, m := range fleet {
			if offers := m.seen(); len(offers) > 0 && offers[len(offers)-1].Version == "3.0.0" {
				holder = m
			}
		}
		return holder != nil
	})
	return holder
}
