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

// simHolding tells a story from where a machine has version 2.0.0 on offer, and no verdict on it.
func simHolding(t *testing.T, story func(t *testing.T, w *simWorld, g *testserver.Group, m *simMachine)) {
	t.Helper()
	simulate(t, func(t *testing.T, w *simWorld) {
		g := w.channel(testserver.Policy{})
		simPublish(g, "2.0.0")
		m := w.machine("m")
		m.decides(nil)
		m.start()
		m.run()
		simPass(15 * time.Minute)
		simWant(t, "offers", len(m.seen()), 1)
		simWant(t, "downloads", w.fetched("2.0.0"), 1)
		simWant(t, "record", m.record().Status, testserver.Downloaded)
		story(t, w, g, m)
	})
}

// releases lists the folders of payloads on disk, whatever their names.
func (m *simMachine) releases() []string {
	m.world.t.Helper()
	found, err := filepath.Glob(filepath.Join(m.dir, "payloads", "*", "*"))
	simNoError(m.world.t, "list payloads", err)
	return found
}

// payloadIs checks the file of an offer.
func (m *simMachine) payloadIs(o omahaclient.UpdateOffer, version string) {
	m.world.t.Helper()
	got, err := os.ReadFile(o.Payloads[0].Path)
	if err != nil || string(got) != string(simContent(version)) || !strings.HasPrefix(o.Payloads[0].Path, m.dir) {
		m.world.t.Errorf("payload of %s at %s: %d bytes, %v; want the file in %s", version, o.Payloads[0].Path, len(got), err, m.dir)
	}
}

func TestRedelivery_afterACrash(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, _ *testserver.Group, m *simMachine) {
		for attempt := 2; attempt <= 4; attempt++ {
			m.kill()
			since := time.Now()
			m.start()
			m.run()
			synctest.Wait()
			simWant(t, "offers", len(m.seen()), attempt)
			simWant(t, "attempt", m.last().Attempt, attempt)
			m.payloadIs(m.last(), "2.0.0")
			simPass(10 * time.Minute)
			simList(t, "events", simEvents(m.contacts(since)))
		}
		simWant(t, "downloads", w.fetched("2.0.0"), 1)
		simNoError(t, "ack", m.last().Ack(nil))
		simPass(time.Minute)
		simWant(t, "history", simHistory(m.record()), "granted, downloading, downloaded, complete")
	})
}

// What lies on disk is verified again before it is handed over again.
func TestRedelivery_verifiesAgain(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, _ *testserver.Group, m *simMachine) {
		m.kill()
		files, err := filepath.Glob(filepath.Join(m.dir, "payloads", "*", "*", "*", "app.bin"))
		if err != nil || len(files) != 1 {
			t.Fatalf("payloads %q, %v; want one", files, err)
		}
		simNoError(t, "spoil", os.WriteFile(files[0], []byte(strings.Repeat("x", len(simContent("2.0.0")))), 0o600))
		m.start()
		m.run()
		synctest.Wait()
		simWant(t, "offers", len(m.seen()), 2)
		m.payloadIs(m.last(), "2.0.0")
		simWant(t, "downloads", w.fetched("2.0.0"), 2)
	})
}

// Older than an hour: the server gets its grant back before anything else, and decides anew.
func TestRedelivery_olderThanAnHourIsGivenBack(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, _ *testserver.Group, m *simMachine) {
		m.kill()
		simPass(time.Hour)
		since := time.Now()
		m.start()
		simWant(t, "offers of a dead process", m.status().Phase, omahaclient.Idle)
		m.run()
		synctest.Wait()
		simList(t, "first contacts", simFirst(2, simWords(m.contacts(since))), "ping", "3/0:36 ping check")
		simWant(t, "offers", len(m.seen()), 2)
		simWant(t, "attempt", m.last().Attempt, 2)
		m.payloadIs(m.last(), "2.0.0")
		simWant(t, "downloads", w.fetched("2.0.0"), 1)
		simNoError(t, "ack", m.last().Ack(nil))
		simPass(time.Second)
		simWant(t, "history", simHistory(m.record()),
			"granted, downloading, downloaded, error 36, granted, downloading, downloaded, complete")
	})
}

// Given back, but not granted again: it is offered when the server wants it, and then from disk.
func TestRedelivery_waitsForTheServer(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, g *testserver.Group, m *simMachine) {
		m.kill()
		g.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
		simPass(2 * time.Hour)
		m.start()
		m.run()
		simPass(5 * time.Hour)
		simWant(t, "offers while disabled", len(m.seen()), 1)
		simWant(t, "record", m.record().Status, testserver.Error)
		g.ChangePolicy(func(p *testserver.Policy) { p.Disabled = false })
		simPass(90 * time.Minute)
		simWant(t, "offers", len(m.seen()), 2)
		simWant(t, "downloads", w.fetched("2.0.0"), 1)
	})
}

func TestRedelivery_supersededIsDropped(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, g *testserver.Group, m *simMachine) {
		m.kill()
		simPublish(g, "3.0.0")
		simPass(2 * time.Hour)
		m.start()
		m.run()
		synctest.Wait()
		simWant(t, "offers", len(m.seen()), 2)
		simWant(t, "version", m.last().Version, "3.0.0")
		simWant(t, "attempt", m.last().Attempt, 1)
		simWant(t, "releases on disk", len(m.releases()), 1)
		m.payloadIs(m.last(), "3.0.0")
		simNoError(t, "ack", m.last().Ack(nil))
		simPass(time.Second)
		simWant(t, "releases on disk", len(m.releases()), 0)
		simWant(t, "history", simHistory(m.record()),
			"granted, downloading, downloaded, error 36, granted, downloading, downloaded, complete")
	})
}

// A crash in the middle of a download: the next process goes on where it stopped, on the same grant.
func TestRedelivery_resumesADownload(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		w.channel(testserver.Policy{}).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{
			{Name: "app.bin", Content: bytes.Repeat([]byte("payload"), 300_000)},
		}})
		w.Payloads.Fail("", 1, testserver.FileFault{Stall: true, After: 2_000_000})
		m := w.machine("m")
		m.start()
		m.run()
		simUntil(t, "a download", 15*time.Minute, func() bool { return w.fetched("2.0.0") == 1 })
		m.kill()
		simPass(30 * time.Minute)
		m.start()
		m.run()
		simPass(time.Second)
		requests := w.Payloads.Requests()
		simWant(t, "requests", len(requests), 2)
		if last := requests[len(requests)-1]; last.Range == "" || last.Bytes > 1_100_000 {
			t.Errorf("range %q, %d bytes; want the rest of 2,100,000", last.Range, last.Bytes)
		}
		simWant(t, "history", simHistory(m.record()), "granted, downloading, downloaded, complete")
	})
}
