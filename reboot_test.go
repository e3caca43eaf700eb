package omahaclient_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// With WithReboot the program may start as often as it likes: only the next boot decides.
func TestReboot_nextBootDecides(t *testing.T) {
	for _, tt := range []struct{ name, before, after string }{
		{"version given", "1.0.0", "2.0.0"},
		{"version left to the journal", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reboot := omahaclient.WithReboot()
			simInstalled(t, tt.before, simRestarts, func(t *testing.T, w *simWorld, m *simMachine) {
				since := time.Now()
				for range 5 {
					m.lives(tt.before, reboot)
				}
				simList(t, "events before the boot", simEvents(m.contacts(since)))
				simWant(t, "record", m.record().Status, testserver.Installed)
				m.boot = "boot-2"
				m.lives(tt.after, reboot)
				simList(t, "events after it", simEvents(m.contacts(since)), "3/2")
				simWant(t, "record", m.record().Status, testserver.Complete)
				simWant(t, "version on the server", m.record().Version, "2.0.0")
			}, reboot)
		})
	}
}

// Boots with the old version count, not starts of the program.
func TestReboot_threeBootsWithTheOldVersion(t *testing.T) {
	reboot := omahaclient.WithReboot()
	simInstalled(t, "1.0.0", simRestarts, func(t *testing.T, w *simWorld, m *simMachine) {
		since := time.Now()
		for _, boot := range []string{"boot-2", "boot-3"} {
			m.boot = boot
			for range 4 {
				m.lives("1.0.0", reboot)
			}
		}
		simList(t, "events of two boots", simEvents(m.contacts(since)))
		m.boot = "boot-4"
		m.decides(nil)
		m.start(simAppAt("1.0.0", reboot))
		m.run()
		simPass(time.Second)
		simList(t, "events of the third boot", simEvents(m.contacts(since)), "3/0:44")
	}, reboot)
}

func TestReboot_manualConfirm(t *testing.T) {
	opts := []omahaclient.AppOption{omahaclient.WithReboot(), omahaclient.WithManualConfirm()}
	simInstalled(t, "1.0.0", simRestarts, func(t *testing.T, w *simWorld, m *simMachine) {
		since := time.Now()
		m.lives("1.0.0", opts...)
		m.boot = "boot-2"
		m.start(simAppAt("2.0.0", opts...))
		m.run()
		simPass(time.Hour)
		simList(t, "events before Confirm", simEvents(m.contacts(since)))
		simNoError(t, "confirm", m.client.Confirm(simApp))
		simPass(time.Second)
		simConfirmed(t, m, since)
	}, opts...)
}

// A self-update that died before its verdict: what runs is what counts.
func TestRestart_openOfferThatRunsIsASuccess(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, _ *testserver.Group, m *simMachine) {
		m.kill()
		simPass(5 * time.Hour) // older than an hour makes no difference
		since := time.Now()
		m.start(simAppAt("2.0.0"))
		m.run()
		simPass(time.Hour)
		simList(t, "events", simEvents(m.contacts(since)), "3/1")
		simWant(t, "record", m.record().Status, testserver.Complete)
		simWant(t, "offers", len(m.seen()), 1)
	})
}

// A version installed by hand while an offer was open: the offer was made for another one, and goes back to the server.
func TestRestart_openOfferForAnotherVersion(t *testing.T) {
	for _, tt := range []struct {
		name, version string
		offers        int
	}{
		{"above the offer", "3.0.0", 1},
		{"between", "1.5.0", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simHolding(t, func(t *testing.T, w *simWorld, _ *testserver.Group, m *simMachine) {
				m.kill()
				since := time.Now()
				m.start(simAppAt(tt.version))
				m.run()
				simPass(time.Second)
				simList(t, "first event", simFirst(1, simEvents(m.contacts(since))), "3/0:36")
				simWant(t, "offers", len(m.seen()), tt.offers)
				if tt.offers == 2 {
					simWant(t, "current version of the offer", m.last().CurrentVersion, tt.version)
					simWant(t, "downloads", w.fetched("2.0.0"), 1)
				}
			})
		})
	}
}

// Where a program that always names one version updates at every start, the log says so and names the way out.
func TestRestart_versionBehindTheJournal(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		book := &simBook{}
		for range 2 {
			m.start(simAppAt("1.0.0"), omahaclient.WithLogger(book.logger()))
			m.run()
			simPass(time.Hour)
			m.stop()
		}
		simWant(t, "offers", len(m.seen()), 2) // "always wins over the journal"
		simWant(t, "warnings", len(book.with(`give \"\"`)), 1)
		m.start(simAppAt(""), omahaclient.WithLogger(book.logger()))
		simWant(t, "version", m.status().Version, "2.0.0")
		m.run()
		simPass(time.Hour)
		simWant(t, "offers", len(m.seen()), 2)
		simWant(t, "warnings", len(book.with(`give \"\"`)), 1)
		synctest.Wait()
	})
}
