package omahaclient_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// simNumbered is an event of a program's own that can be told from the others.
func simNumbered(i int) omaha.Event {
	ev := simProgress()
	ev.NextVersion = fmt.Sprintf("9.0.%d", i)
	return ev
}

// enqueue records an event without waiting for its delivery, and reports whether there was room for it.
func (m *simMachine) enqueue(id string, ev omaha.Event) (room bool) {
	m.world.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var told *omahaclient.Error // the stream was faster, with or without success
	err := m.client.SendEvent(ctx, id, ev)
	if errors.Is(err, omahaclient.ErrOutboxFull) {
		return false
	}
	if err != nil && !errors.Is(err, context.Canceled) && !errors.As(err, &told) {
		m.world.t.Errorf("send event with an ended context: %v", err)
	}
	return true
}

// Every kind of report waits for the network, survives the program, and is delivered by the next one, whichever way.
func TestOutbox_survivesTheProgram(t *testing.T) {
	for _, tt := range []struct {
		name    string
		verdict simVerdict
		spoil   bool // the payload
		history string
	}{
		{"Ack(nil)", simInstalls, false, "granted, downloading, downloaded, complete"},
		{"Ack(err)", simFails, false, "granted, downloading, downloaded, error 1"},
		{"Ack(WithCode)", func(o omahaclient.UpdateOffer) error { return o.Ack(omahaclient.WithCode(errSimBroken, 77)) }, false,
			"granted, downloading, downloaded, error 77"},
		{"Installed", simRestarts, false, "granted, downloading, downloaded, installed"},
		{"Defer", func(o omahaclient.UpdateOffer) error { return o.Defer(time.Hour) }, false, "granted, downloading, downloaded, error 36"},
		{"wrong hash", simInstalls, true, "granted, downloading, error 10"},
	} {
		for _, way := range []string{"stream", "flush", "round", "close"} {
			t.Run(tt.name+", "+way, func(t *testing.T) {
				simulate(t, func(t *testing.T, w *simWorld) {
					simPublish(w.channel(testserver.Policy{}), "2.0.0")
					if tt.spoil {
						w.Payloads.FailFunc(func(testserver.FileRequest) testserver.FileFault { return testserver.FileFault{Corrupt: true} })
					}
					m := w.machine("m")
					m.decides(func(o omahaclient.UpdateOffer) error {
						m.cut(true)
						return tt.verdict(o)
					})
					w.FailFunc(func(r testserver.Request) testserver.Fault { // events do not come through
						if len(r.Apps[0].Events) > 0 {
							return testserver.LostRequest()
						}
						return testserver.Fault{}
					})
					m.start(simAppAt("1.0.0", omahaclient.WithReboot()))
					m.run()
					simPass(40 * time.Minute)
					pending := m.status().PendingEvents
					if want := len(strings.Split(tt.history, ", ")) - 1; pending != want {
						t.Errorf("%d pending events; want %d", pending, want)
					}
					m.kill()
					simPass(26 * time.Hour) // Nebraska's limit for events is past
					w.Heal()
					m.cut(false)
					m.decides(nil)
					w.groupOff() // so that this is all that happens

					m.start(simAppAt("1.0.0", omahaclient.WithReboot()))
					simWant(t, "pending events after the restart", m.status().PendingEvents, pending)
					if way == "close" {
						simNoError(t, "close", m.client.Close())
					} else {
						simSettle(t, m, way)
					}
					simWant(t, "pending events at the end", m.status().PendingEvents, 0)
					simWant(t, "history", simHistory(m.record()), tt.history)
				})
			})
		}
	}
}

// An app's events arrive in the order in which they were recorded, whatever happens on the way; and none is missing.
func TestOutbox_keepsTheOrder(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				simPublish(w.channel(testserver.Policy{Disabled: true}), "2.0.0")
				random := rand.New(rand.NewPCG(seed, 1))
				faults := []testserver.Fault{
					{}, testserver.LostRequest(), testserver.LostAnswer(), testserver.DropEvents(), testserver.StatusFault(503), testserver.HTMLPage(),
				}
				for range 2000 { // in an order that the seed alone decides
					w.Fail(1, faults[random.IntN(len(faults))])
				}
				m := w.machine("m")
				m.start()
				m.run()
				const events = 60
				for i := range events {
					m.enqueue(simApp, simNumbered(i))
					simPass(time.Duration(random.Int64N(int64(time.Minute))))
					if i%20 == 19 {
						m.kill()
						m.start()
						m.run()
					}
				}
				w.Heal()
				simNoError(t, "flush", m.flush())
				simWant(t, "pending events", m.status().PendingEvents, 0)
				next := 0
				for _, c := range m.contacts(time.Time{}) {
					for _, e := range c.Events {
						if c.seen && e.NextVersion == fmt.Sprintf("9.0.%d", next) {
							next++ // for the first time; repetitions are Omaha's way
						} else if c.seen && !simBefore(e.NextVersion, next) {
							t.Errorf("event %s came before 9.0.%d", e.NextVersion, next)
						}
					}
				}
				simWant(t, "events that the server saw", next, events)
			})
		})
	}
}

func simBefore(version string, next int) bool {
	var i int
	_, err := fmt.Sscanf(version, "9.0.%d", &i)
	return err == nil && i < next
}

// Tries to deliver are spaced: from seconds to the schedule's mean, each within its range.
func TestOutbox_backsOff(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		w.channel(testserver.Policy{})
		w.Fail(-1, testserver.StatusFault(404)) // not worth another attempt within the call
		const mean = 10 * time.Hour
		m := w.machine("m")
		m.start(simAppAt("1.0.0"), omahaclient.WithSchedule(omahaclient.Schedule{
			FirstMin: 1000 * time.Hour, FirstMax: 1000 * time.Hour, Min: mean, Max: mean, // no check shall come in between
		}))
		m.run()
		m.enqueue(simApp, simProgress())
		simPass(300 * time.Hour)
		contacts := m.contacts(time.Time{})
		wait := 2 * time.Second
		for i := 1; i < len(contacts); i++ {
			if got := contacts[i].at.Sub(contacts[i-1].at); got < wait/2 || got > wait*3/2 {
				t.Errorf("wait %d: %v; want %v ± 50 %%", i, got, wait)
			}
			wait = min(2*wait, mean)
		}
		if n := len(contacts); n < 30 {
			t.Errorf("%d tries in 300 hours; want it to go on", n)
		}
		w.Heal()
		since := time.Now()
		simPass(15 * time.Hour)
		simList(t, "contacts when the server is back", simWords(m.contacts(since)), "ping", "6/1")
		simWant(t, "pending events", m.status().PendingEvents, 0)
	})
}

// The server drops what comes more than 24 hours after the last ping, so one goes first, in a request of its own: after a
// long silence in a process that lives, and after every restart.
func TestOutbox_pingsFirstAfterASilence(t *testing.T) {
	for _, tt := range []struct {
		name    string
		offline time.Duration
		restart bool
		first   string // contact
	}{
		{"22 hours", 22 * time.Hour, false, "3/1"},
		{"26 hours", 26 * time.Hour, false, "ping"},
		{"restart", time.Minute, true, "ping"},
		{"restart after a week", 7 * 24 * time.Hour, true, "ping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simHolding(t, func(t *testing.T, w *simWorld, g *testserver.Group, m *simMachine) {
				w.groupOff()
				pinged := time.Now()
				simNoError(t, "check now", m.client.CheckNow(t.Context()))
				m.cut(true)
				simNoError(t, "ack", m.last().Ack(nil))
				if tt.restart {
					m.kill()
				}
				simPass(tt.offline - time.Since(pinged))
				m.cut(false)
				if tt.restart {
					m.start()
					m.run()
				}
				since := time.Now()
				simNoError(t, "flush", m.flush())
				words := simWords(m.contacts(since))
				if words[len(words)-1] == "ping check" { // a scheduled one was under way when the server came back
					words = words[:len(words)-1]
				}
				for i := range words { // and took the verdict along
					if words[i] == "3/1 ping" {
						words[i] = "3/1"
					}
				}
				simWant(t, "first contact", words[0], tt.first)
				simWant(t, "contact with the verdict", words[len(words)-1], "3/1")
				simWant(t, "history", simHistory(m.record()), "granted, downloading, downloaded, complete")
			})
		})
	}
}

// A check always carries the app's pending events, before it in the server's eyes: an app is never checked while one of
// them is under way elsewhere.
func TestOutbox_ridesWithTheCheck(t *testing.T) {
	simHolding(t, func(t *testing.T, w *simWorld, _ *testserver.Group, m *simMachine) {
		w.Fail(-1, testserver.StatusFault(404))
		simNoError(t, "ack", m.last().Ack(errSimBroken))
		since := time.Now()
		simPass(20 * time.Hour)
		checks := simChecks(m.contacts(since))
		if len(checks) < 10 {
			t.Errorf("%d checks in 20 hours; want them to go on", len(checks))
		}
		for _, c := range m.contacts(since) {
			if len(c.Events) != 1 || simEvent(c.Events[0]) != "3/0:1" {
				t.Errorf("contact %q without the pending verdict", c)
			}
		}
		simWant(t, "pending events", m.status().PendingEvents, 1)
		w.Heal()
		simPass(2 * time.Hour)
		simWant(t, "history", simHistory(m.record())[:len("granted, downloading, downloaded, error 1, granted")],
			"granted, downloading, downloaded, error 1, granted")
	})
}
