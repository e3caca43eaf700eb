package omahaclient_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// simInstalled tells a story from where version 2.0.0 is installed on a machine with version 1.0.0, whose program has just
// ended.
func simInstalled(t *testing.T, version string, verdict simVerdict, story func(t *testing.T, w *simWorld, m *simMachine), opts ...omahaclient.AppOption) {
	t.Helper()
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.boot = "boot-1"
		m.decides(verdict)
		m.start(simAppAt(version, opts...))
		m.run()
		simPass(time.Hour)
		simWant(t, "record", m.record().Status, testserver.Installed)
		simWant(t, "events", strings.Join(simEvents(m.contacts(time.Time{})), " "), "13/1 14/1 800/1")
		simWant(t, "phase", m.status().Phase, omahaclient.RestartPending)
		simWant(t, "target", m.status().Target, "2.0.0")
		if r := m.status().Reason; !strings.Contains(r, "restart") && !strings.Contains(r, "reboot") {
			t.Errorf("reason %q; want what is waited for", r)
		}
		m.kill()
		simPass(time.Minute)
		story(t, w, m)
	}, testserver.WithLog(1000))
}

// lives starts the program with a version for an hour and kills it.
func (m *simMachine) lives(version string, opts ...omahaclient.AppOption) {
	m.start(simAppAt(version, opts...))
	m.run()
	simPass(time.Hour)
	m.kill()
	simPass(time.Minute)
}

func simConfirmed(t *testing.T, m *simMachine, since time.Time) {
	t.Helper()
	simList(t, "events", simEvents(m.contacts(since)), "3/2")
	for _, c := range m.contacts(since) {
		for _, e := range c.Events {
			simWant(t, "previous version", e.PreviousVersion, "1.0.0")
			simWant(t, "next version", e.NextVersion, "2.0.0")
			simWant(t, "reported version", c.Version, "2.0.0")
		}
	}
	simWant(t, "record", m.record().Status, testserver.Complete)
	simWant(t, "version on the server", m.record().Version, "2.0.0")
}

// The next start decides: by the version that runs or, left to the journal, by itself.
func TestInstalled_nextStartConfirms(t *testing.T) {
	required := func(o omahaclient.UpdateOffer) error { return o.Ack(omahaclient.ErrRestartRequired) }
	for _, tt := range []struct {
		name          string
		verdict       simVerdict
		before, after string
	}{
		{"Installed, version given", simRestarts, "1.0.0", "2.0.0"},
		{"Installed, version given with v", simRestarts, "v1.0.0", "v2.0.0"},
		{"Ack(ErrRestartRequired), version given", required, "1.0.0", "2.0.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simInstalled(t, tt.before, tt.verdict, func(t *testing.T, w *simWorld, m *simMachine) {
				since := time.Now()
				m.lives(tt.after)
				simConfirmed(t, m, since)
				simWant(t, "offers", len(m.seen()), 1)
				since = time.Now()
				m.lives(tt.after)
				simList(t, "events of the start after", simEvents(m.contacts(since)))
				simWant(t, "releases on disk", len(m.releases()), 0)
			})
		})
	}
}

// An app without a version follows the journal.
func TestInstalled_versionLeftToTheJournal(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		g := w.channel(testserver.Policy{})
		m := w.machine("m")
		m.decides(simRestarts)
		for i, version := range []string{"1.0.0", "2.0.0", "3.0.0"} {
			simPublish(g, version)
			m.start()
			simWant(t, "version at the start", m.status().Version, []string{"0.0.0", "1.0.0", "2.0.0"}[i])
			m.run()
			simPass(time.Hour)
			simWant(t, "version before the restart", m.status().Version, []string{"0.0.0", "1.0.0", "2.0.0"}[i])
			m.kill()
		}
		m.lives("")
		simWant(t, "record", m.record().Status, testserver.Complete)
		simWant(t, "version on the server", m.record().Version, "3.0.0")
		simWant(t, "offers", len(m.seen()), 3)
		for i, e := range simEvents(m.contacts(time.Time{})) {
			simWant(t, "event", e, []string{"13/1", "14/1", "800/1", "3/2"}[i%4])
		}
	})
}

// The confirmation waits for the program where it wants to look around first.
func TestInstalled_manualConfirm(t *testing.T) {
	manual := omahaclient.WithManualConfirm()
	simInstalled(t, "1.0.0", simRestarts, func(t *testing.T, w *simWorld, m *simMachine) {
		since := time.Now()
		m.lives("2.0.0", manual) // and again: it has not made up its mind
		m.start(simAppAt("2.0.0", manual))
		m.run()
		simPass(26 * time.Hour)
		simList(t, "events before Confirm", simEvents(m.contacts(since)))
		simWant(t, "record before Confirm", m.record().Status, testserver.Installed)
		simWant(t, "phase", m.status().Phase, omahaclient.RestartPending)
		if r := m.status().Reason; !strings.Contains(r, "Confirm") {
			t.Errorf("reason %q; want it to name Confirm", r)
		}
		simNoError(t, "confirm", m.client.Confirm(simApp))
		m.kill() // it is on disk
		m.start(simAppAt("2.0.0", manual))
		simNoError(t, "confirm once more", m.client.Confirm(simApp))
		m.run()
		simPass(time.Hour)
		simConfirmed(t, m, since)
	}, manual)
}

// A program that finds its new version wanting goes back to the old one: the next start reports that at once.
// A program that replaced itself, and died before it could say so, has still to confirm.
func TestInstalled_manualConfirmOfWhatDiedBeforeItsVerdict(t *testing.T) {
	manual := omahaclient.WithManualConfirm()
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.decides(nil)
		m.lives("1.0.0", manual) // is handed the offer, and says nothing
		simWant(t, "offers", len(m.seen()), 1)
		since := time.Now()
		m.lives("2.0.0", manual)
		m.start(simAppAt("2.0.0", manual))
		m.run()
		simPass(time.Hour)
		simList(t, "events before Confirm", simEvents(m.contacts(since)), "800/1")
		simWant(t, "phase", m.status().Phase, omahaclient.RestartPending)
		simWant(t, "version", m.status().Version, "2.0.0")
		simNoError(t, "confirm", m.client.Confirm(simApp))
		simPass(time.Hour)
		simWant(t, "events", strings.Join(simEvents(m.contacts(since)), " "), "800/1 3/2")
		simWant(t, "record", m.record().Status, testserver.Complete)
		simWant(t, "version on the server", m.record().Version, "2.0.0")
	}, testserver.WithLog(1000))
}

func TestInstalled_manualConfirmRolledBack(t *testing.T) {
	manual := omahaclient.WithManualConfirm()
	simInstalled(t, "1.0.0", simRestarts, func(t *testing.T, w *simWorld, m *simMachine) {
		m.lives("2.0.0", manual)
		since := time.Now()
		m.decides(nil)
		m.start(simAppAt("1.0.0", manual))
		m.run()
		simPass(time.Second)
		simList(t, "events", simEvents(m.contacts(since)), "3/0:44")
	}, manual)
}

// The old version three times: 3/0 with code 44, and the release backs off as one that failed.
func TestInstalled_threeStartsWithTheOldVersion(t *testing.T) {
	simInstalled(t, "1.0.0", simRestarts, func(t *testing.T, w *simWorld, m *simMachine) {
		since := time.Now()
		m.lives("1.0.0")
		m.lives("1.0.0")
		simList(t, "events of two starts", simEvents(m.contacts(since)))
		simWant(t, "record", m.record().Status, testserver.Installed)
		m.start(simAppAt("1.0.0"))
		since = time.Now()
		m.run()
		simPass(time.Second)
		simList(t, "events of the third start", simEvents(m.contacts(since)), "3/0:44")
		simWant(t, "code on the server", m.record().ErrorCode, 44)
		if err := m.status().LastError; err == nil || !strings.Contains(err.Error(), "1.0.0 runs") {
			t.Errorf("last error %v; want what runs", err)
		}

		// Once more at the next scheduled check, from disk; and then it backs off.
		m.decides(simRestarts)
		simPass(time.Hour)
		simWant(t, "offers", len(m.seen()), 2)
		simWant(t, "downloads", w.fetched("2.0.0"), 1)
		m.kill()
		for range 3 {
			m.lives("1.0.0")
		}
		simWant(t, "history", simHistory(m.record()),
			"granted, downloading, downloaded, installed, error 44, granted, downloading, downloaded, installed, error 44")
		m.start(simAppAt("1.0.0"))
		simWant(t, "phase", m.status().Phase, omahaclient.BackingOff)
		m.run()
		simPass(8 * time.Hour)
		simWant(t, "offers while backing off", len(m.seen()), 2)
	})
}

func TestInstalled_newVersionAtTheThirdStart(t *testing.T) {
	simInstalled(t, "1.0.0", simRestarts, func(t *testing.T, w *simWorld, m *simMachine) {
		since := time.Now()
		m.lives("1.0.0")
		m.lives("1.0.0")
		m.lives("2.0.0")
		simConfirmed(t, m, since)
	})
}

// A start with neither version: somebody changed it by hand.
func TestInstalled_neitherVersionRuns(t *testing.T) {
	for _, version := range []string{"0.9.0", "1.5.0", "3.0.0"} {
		t.Run(version, func(t *testing.T) {
			simInstalled(t, "1.0.0", simRestarts, func(t *testing.T, w *simWorld, m *simMachine) {
				m.decides(nil)
				since := time.Now()
				m.start(simAppAt(version))
				m.run()
				simPass(time.Second)
				simList(t, "events", simEvents(m.contacts(since)), "3/0:44")
				simWant(t, "version", m.status().Version, version)
			})
		})
	}
}
