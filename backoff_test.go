package omahaclient_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

const simDay = 24 * time.Hour

// simErrors are the times at which the server recorded a failure with this code.
func simErrors(i testserver.Instance, code int) (times []time.Time) {
	for _, e := range i.History {
		if e.Status == testserver.Error && e.ErrorCode == code {
			times = append(times, e.Time)
		}
	}
	return times
}

// simBackoff checks the waits between failed attempts, by the server's record: at the next scheduled check, then 1, 2, 4, 8
// and 16 days, give or take 6 hours, plus what it takes until the program talks to the server again.
func simBackoff(t *testing.T, failures []time.Time, late time.Duration) {
	t.Helper()
	for i := 1; i < len(failures); i++ {
		wait := failures[i].Sub(failures[i-1])
		least, most := 45*time.Minute, 90*time.Minute+late
		if i > 1 {
			days := min(simDay<<(i-2), 16*simDay)
			least, most = days-6*time.Hour, days+6*time.Hour+late
		}
		if wait < least || wait > most {
			t.Errorf("wait %d: %v; want %v to %v", i, wait, least, most)
		}
	}
}

// simRare checks what a machine sends while a release backs off (from its second failure on, attempts aside): pings, and
// one check in eight mean intervals (9 hours), whose grant is given back at once.
func simRare(t *testing.T, m *simMachine, code int, since, until time.Time, late time.Duration) (checks int) {
	t.Helper()
	contacts := m.contacts(since)
	last := since
	for i, c := range contacts {
		if !c.at.Before(until) {
			break
		}
		if !c.Check || c.at.Equal(since) {
			continue
		}
		checks++
		if wait := c.at.Sub(last); wait < 9*time.Hour || wait > 9*time.Hour+late {
			t.Errorf("check %d comes %v after the last one; want 9 hours and up to %v", checks, wait, late)
		}
		last = c.at
		if !strings.Contains(c.answer, "<manifest") || i+1 >= len(contacts) {
			t.Errorf("check %d: not granted, or nothing after it", checks)
			continue
		}
		back := contacts[i+1]
		if want := fmt.Sprintf("3/0:%d", code); back.String() != want || back.at.Sub(c.at) > time.Second {
			t.Errorf("%v after the early grant comes %q; want %q at once", back.at.Sub(c.at), back, want)
		}
	}
	return checks
}

// The waits of a release that fails again and again, in a program that runs on, one that is killed again and again, and
// cron jobs.
func TestBackoff_waits(t *testing.T) {
	for _, tt := range []struct {
		name string
		span time.Duration
		most int           // attempts in that span
		late time.Duration // from when a contact may happen to when it does
		live func(m *simMachine, end time.Time)
	}{
		{"one process", time.Duration(simDeep(18, 90)) * simDay, simDeep(6, 10), 90 * time.Minute, func(m *simMachine, end time.Time) {
			m.start()
			m.run()
			simPass(time.Until(end))
		}},
		{"killed every 11 hours", time.Duration(simDeep(18, 90)) * simDay, simDeep(6, 10), 2 * time.Hour, func(m *simMachine, end time.Time) {
			for time.Now().Before(end) {
				m.start()
				m.run()
				simPass(11*time.Hour - time.Minute)
				m.kill()
				simPass(time.Minute)
			}
		}},
		{"a round every 5 hours", time.Duration(simDeep(70, 180)) * simDay, simDeep(9, 16), 5 * time.Hour, func(m *simMachine, end time.Time) {
			for time.Now().Before(end) {
				m.start()
				if err := m.once(); err != nil {
					m.world.t.Errorf("round: %v", err)
				}
				m.stop()
				simPass(5 * time.Hour)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				simPublish(w.channel(testserver.Policy{}), "2.0.0")
				m := w.machine("m")
				m.decides(simFails)
				tt.live(m, time.Now().Add(tt.span))
				failures := simErrors(m.record(), 1)
				if n := len(failures); n > tt.most || n < tt.most-1 {
					t.Errorf("%d attempts in %v; want %d, or one less", n, tt.span, tt.most)
				}
				simBackoff(t, failures, tt.late)
				checks := 0
				for i := 1; i+1 < len(failures); i++ {
					checks += simRare(t, m, 40, failures[i], failures[i+1], tt.late)
				}
				if n := len(simErrors(m.record(), 40)); n < checks || checks < int(tt.span/(2*9*time.Hour)) {
					t.Errorf("%d grants given back, %d checks during backoffs in %v", n, checks, tt.span)
				}
				simWant(t, "downloads", w.fetched("2.0.0"), 1)
				simWant(t, "attempt", m.last().Attempt, len(failures))
				t.Logf("%d attempts, %d early grants given back, %d contacts", len(failures), checks, len(m.contacts(time.Time{})))
			})
		})
	}
}

// Until something lifts it, a backoff shows in Status.
func TestBackoff_status(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.decides(simFails)
		m.start()
		m.run()
		simPass(20 * time.Minute)
		s := m.status()
		simWant(t, "phase after the first failure", s.Phase, omahaclient.Idle)
		if s.LastError == nil {
			t.Error("no last error after the first failure")
		}
		simPass(2 * time.Hour)
		for _, restarted := range []bool{false, true} {
			s = m.status()
			simWant(t, "phase", s.Phase, omahaclient.BackingOff)
			simWant(t, "target", s.Target, "2.0.0")
			for _, word := range []string{"2.0.0", "2 times", errSimBroken.Error(), "2000-01-"} {
				if !strings.Contains(s.Reason, word) {
					t.Errorf("reason %q (restarted %v); want %q in it", s.Reason, restarted, word)
				}
			}
			m.kill()
			m.start()
		}
	})
}

// What lifts a backoff.
func TestBackoff_lifted(t *testing.T) {
	other := bytes.Repeat([]byte("another 2.0.0"), 10)
	for _, tt := range []struct {
		name    string
		lift    func(t *testing.T, w *simWorld, m *simMachine)
		within  time.Duration
		version string
		attempt int
		after   time.Duration // to the attempt after, if that one fails again
	}{
		{"CheckNow", func(t *testing.T, _ *simWorld, m *simMachine) {
			simNoError(t, "check now", m.client.CheckNow(t.Context()))
		}, 0, "2.0.0", 3, 2 * simDay},
		{"CheckNow, refused by policy at first", func(t *testing.T, w *simWorld, m *simMachine) {
			w.group.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
			simNoError(t, "check now", m.client.CheckNow(t.Context()))
			w.group.ChangePolicy(func(p *testserver.Policy) { p.Disabled = false })
		}, 90 * time.Minute, "2.0.0", 3, 2 * simDay},
		{"another version", func(_ *testing.T, w *simWorld, _ *simMachine) { simPublish(w.group, "3.0.0") }, 11 * time.Hour, "3.0.0", 1, 0},
		{"another payload", func(_ *testing.T, w *simWorld, _ *simMachine) {
			w.group.Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: other}}})
		}, 11 * time.Hour, "2.0.0", 1, 0},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", tt.name, restart), func(t *testing.T) {
				simulate(t, func(t *testing.T, w *simWorld) {
					simPublish(w.channel(testserver.Policy{}), "2.0.0")
					m := w.machine("m")
					m.decides(simFails)
					m.start()
					m.run()
					simPass(3 * time.Hour)
					simWant(t, "attempts", len(m.seen()), 2)
					tt.lift(t, w, m)
					if restart {
						simPass(time.Second)
						m.kill()
						m.start()
						m.run()
					}
					since := time.Now()
					simUntil(t, "attempts after it was lifted", tt.within, func() bool { return len(m.seen()) == 3 })
					simWant(t, "version", m.last().Version, tt.version)
					simWant(t, "attempt", m.last().Attempt, tt.attempt)
					if tt.after == 0 { // the count starts anew: once more at the next check
						simUntil(t, "attempts at the next check", 90*time.Minute, func() bool { return len(m.seen()) == 4 })
						return
					}
					simPass(tt.after - 6*time.Hour - time.Since(since) - time.Minute)
					simWant(t, "attempts before the next wait is over", len(m.seen()), 3)
					simPass(12*time.Hour + 4*time.Hour)
					simWant(t, "attempts after it", len(m.seen()), 4)
				})
			})
		}
	}
}

// Flatcar's DisablePayloadBackoff: at each scheduled check, and no rarer.
func TestBackoff_disabledByTheServer(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		w.channel(testserver.Policy{}).Publish(testserver.Release{
			Version: "2.0.0",
			Files:   []testserver.File{{Name: "app.bin", Content: simContent("2.0.0")}},
			Action:  &testserver.Action{DisablePayloadBackoff: true},
		})
		m := w.machine("m")
		m.decides(simFails)
		m.start()
		m.run()
		simPass(simDay)
		if n := len(m.seen()); n < 24*60/90 {
			t.Errorf("%d attempts in a day; want one at every check", n)
		}
		simSpaced(t, simChecks(m.contacts(time.Time{})), 45*time.Minute, 90*time.Minute)
		simWant(t, "downloads", w.fetched("2.0.0"), 1)
	})
}

// A download that fails is nobody's fault for good: the next scheduled check goes on where it stopped, however often.
func TestBackoff_transferFailuresResume(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		content := bytes.Repeat([]byte("payload"), 300_000)
		w.channel(testserver.Policy{}).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: content}}})
		w.Payloads.Fail("", 1, testserver.FileFault{Cut: true, After: 2_000_000})
		w.Payloads.Fail("", -1, testserver.FileFault{Status: 500})
		m := w.machine("m")
		m.start()
		m.run()
		simPass(simDay)
		failures := simErrors(m.record(), 9)
		if n := len(failures); n < 24*60/95 {
			t.Errorf("%d attempts in a day; want one at every check", n)
		}
		simSpaced(t, simChecks(m.contacts(time.Time{})), 45*time.Minute, 92*time.Minute)
		simWant(t, "phase", m.status().Phase, omahaclient.Idle)
		w.Payloads.Heal()
		m.kill()
		m.start()
		m.run()
		simPass(15 * time.Minute)
		simWant(t, "record", m.record().Status, testserver.Complete)
		requests := w.Payloads.Requests()
		if last := requests[len(requests)-1]; last.Bytes > 200_000 || last.Range == "" {
			t.Errorf("range %q, %d bytes; want the rest alone", last.Range, last.Bytes)
		}
	})
}
