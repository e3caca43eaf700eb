package omahaclient_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// Several events of an app go in one request.
func TestOutbox_severalEventsInOneRequest(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		w.channel(testserver.Policy{})
		m := w.machine("m")
		m.start()
		m.cut(true)
		for i := range 10 {
			m.enqueue(simApp, simNumbered(i))
		}
		simWant(t, "pending events", m.status().PendingEvents, 10)
		m.cut(false)
		simNoError(t, "flush", m.flush())
		contacts := m.contacts(time.Time{})
		simWant(t, "contacts", len(contacts), 2)
		simWant(t, "events in the second", len(contacts[1].Events), 10)
		simWant(t, "pending events", m.status().PendingEvents, 0)
	})
}

// An app that the server refuses blocks no other, and Status says so. When the server knows it, its events follow.
func TestOutbox_refusedAppBlocksNoOther(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		g := w.channel(testserver.Policy{})
		m := w.machine("m")
		m.start(
			omahaclient.WithApp(simOther, "1.0.0", omahaclient.WithChannel(simTrack)),
			simAppAt("1.0.0"),
		)
		m.run()
		for i := range 3 {
			m.enqueue(simOther, simNumbered(i))
			m.enqueue(simApp, simNumbered(i))
		}
		simPass(time.Second)
		status := m.client.Status()
		simWant(t, "pending events of the known app", status[1].PendingEvents, 0)
		simWant(t, "pending events of the unknown app", status[0].PendingEvents, 3)
		if !strings.Contains(status[0].Reason, "error-failedToRetrieveUpdatePackageInfo") {
			t.Errorf("reason %q; want the server's", status[0].Reason)
		}
		var refusal *omahaclient.Error
		if err := m.flush(); !errors.As(err, &refusal) || refusal.AppID != simOther || refusal.Op != "report" {
			t.Errorf("flush: %v; want the refused app", err)
		}
		simPublish(g, "2.0.0")
		simPass(2 * time.Hour)
		simWant(t, "version of the known app", m.client.Status()[1].Version, "2.0.0")
		if n := len(m.contactsOf(simOther, time.Time{})); n > 20 {
			t.Errorf("%d contacts in 2 hours for what the server refuses for good", n)
		}

		w.AddGroup(simOther, simTrack, testserver.AnyArch, testserver.Policy{})
		simPass(2 * time.Hour)
		simWant(t, "pending events when it is known", m.client.Status()[0].PendingEvents, 0)
		if r := m.client.Status()[0].Reason; strings.Contains(r, "reports") {
			t.Errorf("reason %q; want nothing of refused reports", r)
		}
	})
}

// A refusal that speaks of the check alone keeps no report back, even where the two always meet.
func TestOutbox_channelWithoutPackage(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, g *testserver.Group, m *simMachine) {
		m.cut(true)
		simNoError(t, "ack", m.last().Ack(nil))
		m.kill()
		m.cut(false)
		g.Unpublish()
		m.start()
		if err := m.once(); err == nil {
			t.Error("no error for a channel without a package")
		}
		simWant(t, "pending events", m.status().PendingEvents, 0)
		simWant(t, "history", simHistory(m.record()), "granted, downloading, downloaded, complete")
		if n := len(m.contacts(time.Time{})); n > 10 {
			t.Errorf("%d contacts; want a few", n)
		}
	})
}

// A month without the server: the outbox stays small, and what is in it comes through.
func TestOutbox_aMonthOffline(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.decides(simFails)
		w.FailFunc(func(r testserver.Request) testserver.Fault { // from the grant on
			if len(r.Apps[0].Events) > 0 {
				return testserver.LostRequest()
			}
			return testserver.Fault{}
		})
		m.start()
		m.run()
		simPass(40 * time.Minute)
		w.Offline(true)
		w.Heal()
		simWant(t, "pending events", m.status().PendingEvents, 3) // 13/1, 14/1, 3/0
		const events = 30 * 8                                     // one in three hours
		most, taken := 0, 0
		for i := range events {
			if m.enqueue(simApp, simNumbered(i)) {
				taken++
			}
			simPass(3 * time.Hour)
			most = max(most, m.status().PendingEvents)
			if i%50 == 49 {
				m.kill()
				m.start()
				m.run()
			}
		}
		simWant(t, "events taken", taken, 48)
		simWant(t, "pending events at the most", most, 3+taken)
		w.Offline(false)
		w.groupOff()
		since := time.Now()
		simNoError(t, "flush", m.flush())
		simList(t, "first events", simFirst(3, simEvents(m.contacts(since))), "13/1", "14/1", "3/0:1")
		simWant(t, "history", simHistory(m.record()), "granted, downloading, downloaded, error 1")
		last := m.contacts(since)
		delivered := last[len(last)-1].Events
		simWant(t, "latest event", delivered[len(delivered)-1].NextVersion, simNumbered(taken-1).NextVersion)
		synctest.Wait()
	})
}

// Even a program that floods the outbox with final events loses none of our verdicts.
func TestOutbox_floodKeepsTheVerdict(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, _ *testserver.Group, m *simMachine) {
		w.groupOff()
		m.cut(true)
		m.leave() // so that nothing is on its way
		simNoError(t, "ack", m.last().Ack(nil))
		taken := 0
		for i := range 300 {
			ev := simNumbered(i)
			ev.Type, ev.Result = omaha.EventTypeUpdateComplete, omaha.EventResultError
			if m.enqueue(simApp, ev) {
				taken++
			}
		}
		simWant(t, "events taken", taken, 48)
		m.cut(false)
		since := time.Now()
		simNoError(t, "flush", m.flush())
		simWant(t, "verdict among them", slices.Contains(simEvents(m.contacts(since)), "3/1"), true)
		simWant(t, "record", m.record().Status, testserver.Complete)
	})
}
