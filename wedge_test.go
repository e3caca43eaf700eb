package omahaclient_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// wedge makes the server believe that the machine is in the middle of an update, as a lost final event does: for ever.
func (m *simMachine) wedge() {
	i := m.record()
	i.AppID, i.MachineID, i.Track, i.Alias = simApp, m.id, simTrack, m.id
	i.Status, i.LastCheck = testserver.Downloaded, time.Time{}
	if i.Version == "" {
		i.Version = "0.0.0"
	}
	i.GrantedVersion, i.GrantedAt = "2.0.0", time.Now()
	m.world.PutInstance(i)
}

// wedgeAlways wedges the machine again whenever it is free, as a server that takes no event, or another machine with the
// same id.
func (m *simMachine) wedgeAlways() {
	m.world.FailFunc(func(testserver.Request) testserver.Fault {
		return testserver.Fault{Edit: func(apps []testserver.AppAnswer) []testserver.AppAnswer {
			for i := range apps {
				if apps[i].Check != "" {
					apps[i].Status, apps[i].Check = "error-updateInProgressOnInstance", "error-internal"
				}
			}
			return apps
		}}
	})
}

// A server that lost the verdict gets it again: the same one, and nothing else.
func TestWedge_keptVerdictIsSentAgain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		verdict simVerdict
		event   string
		status  testserver.Status
		restart bool // for an update that takes effect at the next start
	}{
		{"success", simInstalls, "3/1", testserver.Complete, false},
		{"failure", func(o omahaclient.UpdateOffer) error { return o.Ack(omahaclient.WithCode(errSimBroken, 5)) }, "3/0:5", testserver.Error, false},
		{"restart", simRestarts, "3/2", testserver.Complete, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				g := w.channel(testserver.Policy{})
				simPublish(g, "2.0.0")
				m := w.machine("m")
				m.decides(tt.verdict)
				m.start()
				m.run()
				simPass(20 * time.Minute)
				if tt.restart {
					m.kill()
					m.start()
					m.run()
					simPass(20 * time.Minute)
				}
				simWant(t, "status before", m.record().Status, tt.status)

				g.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true }) // it has to free the instance, no more
				m.wedge()
				since := time.Now()
				simPass(2 * time.Hour)
				simList(t, "events", simEvents(m.contacts(since)), tt.event)
				simWant(t, "status after", m.record().Status, tt.status)
				simWant(t, "offers", len(m.seen()), 1)
			})
		})
	}
}

// The verdict that is kept survives the program, and is sent again by cron jobs too.
func TestWedge_verdictIsKeptAcrossRestarts(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.start()
		simNoError(t, "round", m.once())
		m.kill()
		m.wedge()
		simPass(time.Hour)
		since := time.Now()
		for range 3 {
			m.start()
			simNoError(t, "round", m.once())
			m.stop()
			simPass(time.Hour)
		}
		simList(t, "events", simEvents(m.contacts(since)), "3/1")
		simWant(t, "status", m.record().Status, testserver.Complete)
	})
}

// A server that never believes it is told three times, with a look a minute later, and from then on asked at the usual
// times: no loop, and a success never becomes a failure.
func TestWedge_neverALoop(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		g := w.channel(testserver.Policy{})
		simPublish(g, "2.0.0")
		m := w.machine("m")
		m.start()
		m.run()
		simPass(time.Hour)
		simWant(t, "status", m.record().Status, testserver.Complete)

		m.wedgeAlways()
		since := time.Now()
		simPass(10 * 24 * time.Hour)
		contacts := m.contacts(since)
		simList(t, "events", simEvents(contacts), "3/1", "3/1", "3/1")
		checks := simChecks(contacts)
		simSpaced(t, checks[:4], time.Minute, time.Minute)
		simSpaced(t, checks[3:], 45*time.Minute, 90*time.Minute)
		if s := m.status(); s.Reason == "" || s.PendingEvents != 0 {
			t.Errorf("status %+v; want a reason and nothing pending", s)
		}

		w.Heal() // and all goes on
		simPublish(g, "3.0.0")
		simPass(3 * time.Hour)
		simWant(t, "version", m.status().Version, "3.0.0")
	})
}

// simSpaced checks that contacts keep to the schedule's waits.
func simSpaced(t *testing.T, contacts []simContact, least, most time.Duration) {
	t.Helper()
	if len(contacts) < 2 {
		t.Errorf("%d contacts; want several", len(contacts))
	}
	for i := 1; i < len(contacts); i++ {
		if wait := contacts[i].at.Sub(contacts[i-1].at); wait < least || wait > most {
			t.Errorf("wait %d of %d: %v from %q to %q; want %v to %v", i, len(contacts)-1, wait, contacts[i-1], contacts[i], least, most)
		}
	}
}

// Without a verdict to repeat (a new journal) the instance is freed at the second sighting in a row, and updated.
func TestWedge_isFreedAtTheSecondSighting(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.wedge()
		m.start()
		m.run()
		simPass(4 * time.Minute)
		simList(t, "before the first check", simWords(m.contacts(time.Time{})))
		simUntil(t, "a check", 15*time.Minute, func() bool { return len(m.contacts(time.Time{})) == 1 })
		simList(t, "after the first check", simWords(m.contacts(time.Time{})), "ping check")
		simPass(time.Minute)
		simList(t, "after the second check", simFirst(3, simWords(m.contacts(time.Time{}))), "ping check", "ping check", "3/0:1")
		simPass(90 * time.Minute)
		simWant(t, "record", m.record().Status, testserver.Complete)
		simWant(t, "history", simHistory(m.record()), "error 1, granted, downloading, downloaded, complete")
	})
}

// Sightings count in a row only, across restarts, and free the instance a few times at most.
func TestWedge_sightings(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		w.channel(testserver.Policy{Disabled: true})
		m := w.machine("m")
		round := func(wedged bool) {
			w.Heal()
			if wedged {
				m.wedgeAlways()
			}
			m.start()
			if err := m.once(); err != nil && !errors.Is(err, omahaclient.ErrClosed) {
				t.Logf("round: %v", err)
			}
			synctest.Wait()
			m.kill()
			simPass(time.Hour)
		}
		for range 5 {
			round(true)
			round(false)
		}
		simList(t, "events of single sightings", simEvents(m.contacts(time.Time{})))
		round(true)
		round(true)
		simList(t, "events at the second sighting", simEvents(m.contacts(time.Time{})), "3/0:1")
		for range 30 {
			round(true)
		}
		if n := len(simEvents(m.contacts(time.Time{}))); n > 3 {
			t.Errorf("%d times 3/0 for a server that does not listen; want at most 3", n)
		}
	})
}

// While a release backs off, a wedge changes nothing about how rarely is checked.
func TestWedge_whileBackingOff(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.decides(simFails)
		m.start()
		m.run()
		simPass(4 * time.Hour) // fails twice
		simWant(t, "offers", len(m.seen()), 2)
		m.wedgeAlways()
		since := time.Now()
		simPass(13 * time.Hour) // the backoff lasts for 18 at least
		if n := len(simChecks(m.contacts(since))); n > 2 {
			t.Errorf("%d checks in 13 hours of backoff; want one in 9 hours", n)
		}
	})
}
