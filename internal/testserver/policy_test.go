package testserver_test

import (
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

const (
	disabled      = "error-updatesDisabled/error-internal"
	maxPerPeriod  = "error-maxUpdatesPerPeriodLimitReached/error-internal"
	maxConcurrent = "error-maxConcurrentUpdatesLimitReached/error-internal"
	maxTimedOut   = "error-maxTimedOutUpdatesLimitReached/error-internal"
)

func TestPolicy_disabled(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{Disabled: true})
	b.offers(disabled, both)
	b.offers(noUpdate, both, "version=2.0.0") // nothing to refuse
	if got := b.Grants(appA); got != 0 {
		t.Errorf("%d grants", got)
	}
}

// Quota, then concurrency: both against the same number, both before anything
// that safe mode says.
func TestPolicy_limits(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{MaxUpdates: 2, Period: time.Hour, Timeout: 3 * time.Hour})
	b.offers("2.0.0", both, "machineid=m1")
	b.offers("2.0.0", both, "machineid=m2")
	b.offers(maxPerPeriod, both, "machineid=m3")
	b.one(event(3, 1), "machineid=m1")
	b.offers(maxPerPeriod, both, "machineid=m3") // complete, but granted within the period
	b.clock.advance(time.Hour)
	b.offers("2.0.0", both, "machineid=m3")
	b.clock.advance(time.Hour)
	b.offers(maxConcurrent, both, "machineid=m4") // m2 and m3
	b.clock.advance(time.Hour + time.Second)
	b.offers("2.0.0", both, "machineid=m4") // m2 no longer counts
}

// An instance counts once, by its last grant, and its own grant counts against
// itself: given back within the period, it has to wait.
func TestPolicy_quotaCountsGrantsGivenBack(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{MaxUpdates: 1, Period: time.Hour})
	b.offers("2.0.0", both)
	b.one(event(3, 0, `errorcode="36"`))
	b.offers(maxPerPeriod, both)
	b.offers(maxPerPeriod, both, "machineid=m2")
	b.clock.advance(time.Hour)
	b.offers("2.0.0", both)
}

func TestPolicy_holdsOnlyInstancesThatWereGrantedBefore(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{MaxUpdates: 1})
	b.offers("2.0.0", both)
	b.one(event(3, 0))
	b.offers(maxPerPeriod, both)
	b.offers(maxPerPeriod, both, "machineid=m2")
	b.is(testserver.OnHold)
	b.is(testserver.Undefined, "m2")
}

func TestPolicy_instancesSilentForADayDoNotCount(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{MaxUpdates: 1, Period: 48 * time.Hour})
	b.offers("2.0.0", both)
	b.offers(maxPerPeriod, both, "machineid=m2")
	b.clock.advance(24 * time.Hour)
	b.offers("2.0.0", both, "machineid=m2")
}

func TestPolicy_safeModeSendsCanaryFirst(t *testing.T) {
	for _, verdict := range []string{event(3, 1), event(3, 0)} { // one attempt opens the gate, whatever came of it
		b := newBench(t)
		b.group(testserver.Policy{SafeMode: true, Period: time.Minute, Timeout: time.Hour})
		b.offers("2.0.0", both, "machineid=m1")
		b.offers(maxPerPeriod, both, "machineid=m2")
		b.clock.advance(time.Minute)
		b.offers(maxConcurrent, both, "machineid=m2")
		b.one(verdict, "machineid=m1")
		b.offers("2.0.0", both, "machineid=m2")
		b.offers("2.0.0", both, "machineid=m3")
	}
}

func TestPolicy_safeModeSwitchesGroupOffByTimeout(t *testing.T) {
	b := newBench(t)
	g := b.group(testserver.Policy{SafeMode: true, Period: time.Minute, Timeout: time.Hour})
	b.offers("2.0.0", both, "machineid=m1")
	b.one(event(13, 1), "machineid=m1")
	b.clock.advance(time.Hour)
	b.offers(maxConcurrent, both, "machineid=m2")
	if g.Policy().Disabled {
		t.Error("switched off before the timeout")
	}
	b.clock.advance(time.Second)
	b.offers(maxTimedOut, both, "machineid=m2")
	if !g.Policy().Disabled {
		t.Error("not switched off by the timeout")
	}
	b.offers(disabled, both, "machineid=m2")
	b.one(event(3, 1), "machineid=m1")
	b.offers(disabled, both, "machineid=m2") // until an administrator turns it on
	g.ChangePolicy(func(p *testserver.Policy) { p.Disabled = false })
	b.offers("2.0.0", both, "machineid=m2")
}

func TestPolicy_withoutSafeModeTimeoutsOnlyFreeSlots(t *testing.T) {
	b := newBench(t)
	g := b.group(testserver.Policy{MaxUpdates: 1, Period: time.Minute, Timeout: time.Hour})
	b.offers("2.0.0", both, "machineid=m1")
	b.clock.advance(time.Hour + time.Second)
	b.offers("2.0.0", both, "machineid=m2")
	if g.Policy().Disabled {
		t.Error("a group without safe mode was switched off")
	}
}

func TestPolicy_ofOneGroupDoesNotCountAnother(t *testing.T) {
	b := newBench(t)
	b.group(testserver.Policy{MaxUpdates: 1})
	b.AddGroup(appA, "beta", testserver.AnyArch, testserver.Policy{MaxUpdates: 1}).Publish(testserver.Release{Version: "2.0.0"})
	b.offers("2.0.0", both, "machineid=m1")
	b.offers("2.0.0", both, "machineid=m2", "track=beta")
	b.offers(maxPerPeriod, both, "machineid=m3")
}
