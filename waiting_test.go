package omahaclient_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// An offer is held for three days by a program that lives: it is pinged, never given up, and completes on the server.
func TestHeldOffer_completesAfterThreeDays(t *testing.T) {
	for _, tt := range []struct {
		name        string
		schedule    omahaclient.Schedule
		least, most time.Duration // between pings
	}{
		{"default schedule", omahaclient.Schedule{}, 45 * time.Minute, 90 * time.Minute},
		{"schedule of days", omahaclient.Schedule{FirstMin: time.Minute, FirstMax: time.Minute, Min: 70 * time.Hour, Max: 80 * time.Hour}, 0, 12 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				simPublish(w.channel(testserver.Policy{}), "2.0.0")
				m := w.machine("m")
				m.decides(nil)
				m.start(simAppAt(""), omahaclient.WithSchedule(tt.schedule))
				m.run()
				simPass(20 * time.Minute)
				offered := time.Now()
				simPass(3 * 24 * time.Hour)
				contacts := m.contacts(offered)
				simSpaced(t, contacts, tt.least, tt.most)
				simWant(t, "checks", len(simChecks(contacts)), 0)
				s := m.status()
				simWant(t, "phase", s.Phase, omahaclient.Offered)
				if !strings.Contains(s.Reason, offered.Format("2006-01-02")) {
					t.Errorf("reason %q; want since when", s.Reason)
				}
				simNoError(t, "ack", m.last().Ack(nil))
				simPass(time.Second)
				simWant(t, "offers", len(m.seen()), 1)
				simWant(t, "history", simHistory(m.record()), "granted, downloading, downloaded, complete")
			})
		})
	}
}

func TestDefer_keepsThePayloadAndPings(t *testing.T) {
	for _, tt := range []struct {
		name    string
		between func(m *simMachine) // while deferred
	}{
		{"one process", func(*simMachine) { simPass(5 * time.Hour) }},
		{"crash", func(m *simMachine) {
			simPass(2 * time.Hour)
			m.kill()
			simPass(time.Hour)
			m.start()
			m.run()
			simPass(2 * time.Hour)
		}},
		{"cron jobs", func(m *simMachine) {
			m.stop()
			for range 5 {
				simPass(time.Hour)
				m.start()
				simNoError(m.world.t, "round", m.once())
				m.stop()
			}
			m.start()
			m.run()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simHolding(t, func(t *testing.T, w *simWorld, _ *testserver.Group, m *simMachine) {
				deferred := time.Now()
				simNoError(t, "defer", m.last().Defer(6*time.Hour))
				simPass(time.Second)
				simWant(t, "record", m.record().Status, testserver.Error)
				simWant(t, "code", m.record().ErrorCode, 36)
				tt.between(m)
				simWant(t, "phase", m.status().Phase, omahaclient.BackingOff)
				simWant(t, "target", m.status().Target, "2.0.0")
				simPass(time.Until(deferred.Add(6*time.Hour - time.Second)))
				simWant(t, "checks while deferred", len(simChecks(m.contacts(deferred))), 0)
				if pings := len(m.contacts(deferred)); pings < 4 {
					t.Errorf("%d contacts in 6 hours; want pings", pings)
				}
				simPass(time.Until(deferred.Add(6 * time.Hour)))
				simWant(t, "offers", len(m.seen()), 2)
				simWant(t, "attempt", m.last().Attempt, 2)
				m.payloadIs(m.last(), "2.0.0")
				simWant(t, "downloads", w.fetched("2.0.0"), 1)
				simNoError(t, "ack", m.last().Ack(nil))
				simPass(time.Second)
				simWant(t, "record", m.record().Status, testserver.Complete)
			})
		})
	}
}

func TestDefer_liftedByCheckNow(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, _ *testserver.Group, m *simMachine) {
		simNoError(t, "defer", m.last().Defer(30*simDay))
		simPass(time.Hour)
		simNoError(t, "check now", m.client.CheckNow(t.Context()))
		synctest.Wait()
		simWant(t, "offers", len(m.seen()), 2)
		simWant(t, "downloads", w.fetched("2.0.0"), 1)
	})
}

// What was deferred is dropped if the server has something else by then.
func TestDefer_superseded(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, g *testserver.Group, m *simMachine) {
		simNoError(t, "defer", m.last().Defer(6*time.Hour))
		simPass(time.Hour)
		simWant(t, "releases on disk", len(m.releases()), 1)
		simPublish(g, "3.0.0")
		simPass(5 * time.Hour)
		simWant(t, "offers", len(m.seen()), 2)
		simWant(t, "version", m.last().Version, "3.0.0")
		simWant(t, "attempt", m.last().Attempt, 1)
		simWant(t, "releases on disk", len(m.releases()), 1)
	})
}

// A grant that the program holds occupies the group's slot; a deferred one does not.
func TestDefer_freesTheGroupsSlot(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{MaxUpdates: 1, Period: time.Minute, Timeout: 100 * time.Hour}), "2.0.0")
		first, second := w.machine("first"), w.machine("second")
		first.decides(nil)
		first.start()
		first.run()
		simPass(15 * time.Minute)
		second.start()
		second.run()
		simPass(5 * time.Hour)
		simWant(t, "offers to the second while the first holds one", len(second.seen()), 0)
		if r := second.status().Reason; !strings.Contains(r, "server") {
			t.Errorf("reason %q; want the server's", r)
		}
		simNoError(t, "defer", first.last().Defer(24*time.Hour))
		simPass(90 * time.Minute)
		simWant(t, "offers to the second", len(second.seen()), 1)
	})
}

// A release that was to ripen is ripe where the next program does not ask for that any more.
func TestMinAge_dropped(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.start(simAppAt("", omahaclient.WithMinAge(9*simDay)))
		m.run()
		simPass(simDay)
		simWant(t, "history", simHistory(m.record()), "granted, error 36")
		m.kill()
		m.start()
		m.run()
		simPass(15 * time.Minute)
		simWant(t, "history", simHistory(m.record()), "granted, error 36, granted, downloading, downloaded, complete")
	})
}

// Checks that change nothing write nothing: flash wears out.
func TestJournal_checksWriteNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		quiet func(w *simWorld)
	}{
		{"no update", func(*simWorld) {}},
		{"updates disabled", func(w *simWorld) {
			simPublish(w.group, "9.0.0")
			w.groupOff()
		}},
		{"channel without a package", func(w *simWorld) { w.group.Unpublish() }},
		{"server down", func(w *simWorld) { w.Offline(true) }},
		{"server answers with a page", func(w *simWorld) { w.Fail(-1, testserver.HTMLPage()) }},
		{"in progress for ever", func(w *simWorld) {
			w.machines[0].wedgeAlways()
			simPass(6 * time.Hour) // told all there is to tell
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				simPublish(w.channel(testserver.Policy{}), "2.0.0")
				m := w.machine("m")
				m.decides(simFails)
				m.start(simAppAt("1.0.0"))
				m.run()
				simPass(20 * time.Minute)
				simWant(t, "offers", len(m.seen()), 1)
				simPublish(w.group, "1.0.0") // withdrawn; that it failed is remembered
				tt.quiet(w)
				simPass(time.Hour)
				before := m.journal()
				simPass(simDay)
				if !bytes.Equal(m.journal(), before) {
					t.Error("the journal was written to in a day of checks that changed nothing")
				}
			})
		})
	}
}

// journal is the journal's file.
func (m *simMachine) journal() []byte {
	m.world.t.Helper()
	content, err := os.ReadFile(filepath.Join(m.dir, "journal.db"))
	simNoError(m.world.t, "read journal", err)
	return content
}
