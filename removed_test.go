package omahaclient_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

const simOther = "io.example.Other"

// Whatever an app leaves behind that is no longer configured is settled with the server, and then forgotten.
func TestRemovedApp_isSettledAndForgotten(t *testing.T) {
	for _, tt := range []struct {
		name    string
		verdict simVerdict
		cut     bool // the verdict cannot be delivered before the program ends
		status  testserver.Status
		code    int
	}{
		{"open offer", nil, false, testserver.Error, 36},
		{"installed", simRestarts, false, testserver.Error, 36},
		{"verdict not delivered", simInstalls, true, testserver.Complete, 0},
		{"failure not delivered", simFails, true, testserver.Error, 1},
		{"installation not delivered", simRestarts, true, testserver.Error, 36},
	} {
		for _, way := range []string{"stream", "flush", "round"} {
			t.Run(tt.name+", "+way, func(t *testing.T) {
				simulate(t, func(t *testing.T, w *simWorld) {
					simPublish(w.channel(testserver.Policy{}), "2.0.0")
					simPublish(w.AddGroup(simOther, simTrack, testserver.AnyArch, testserver.Policy{}), "1.0.0")
					m := w.machine("m")
					m.decides(func(o omahaclient.UpdateOffer) error {
						m.cut(tt.cut)
						if tt.verdict == nil {
							return nil
						}
						return tt.verdict(o)
					})
					m.start(simAppAt("1.0.0"))
					m.run()
					simPass(16 * time.Minute)
					simWant(t, "offers", len(m.seen()), 1)
					m.kill()
					m.cut(false)
					simPass(30 * time.Hour)

					m.start(omahaclient.WithApp(simOther, "1.0.0", omahaclient.WithChannel(simTrack)))
					simSettle(t, m, way)
					simWant(t, "record", m.record().Status, tt.status)
					simWant(t, "code", m.record().ErrorCode, tt.code)
					simWant(t, "releases on disk", len(m.releases()), 0)

					settled := time.Now()
					simPass(24 * time.Hour)
					simList(t, "contacts about it afterwards", simWords(m.contacts(settled.Add(time.Second))))
					m.kill()
					m.decides(nil)
					m.start(simAppAt(""))
					simWant(t, "version when it comes back", m.status().Version, "0.0.0")
					simWant(t, "pending events", m.status().PendingEvents, 0)
				})
			})
		}
	}
}

func simSettle(t *testing.T, m *simMachine, way string) {
	t.Helper()
	switch way {
	case "stream":
		m.run()
		simPass(time.Second)
	case "flush":
		simNoError(t, "flush", m.flush())
	case "round":
		simNoError(t, "round", m.once())
	}
	synctest.Wait()
}

// A server that does not know the removed app has no record to settle: it is forgotten too, and holds nothing up.
func TestRemovedApp_unknownToTheServer(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.AddGroup(simOther, simTrack, testserver.AnyArch, testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.start(simAppAt("1.0.0"))
		if err := m.client.SendEvent(t.Context(), simApp, simProgress()); err == nil {
			t.Error("no error for an event about an app that the server does not know")
		}
		simWant(t, "pending events", m.status().PendingEvents, 1)
		m.kill()
		m.start(omahaclient.WithApp(simOther, "1.0.0", omahaclient.WithChannel(simTrack)))
		simNoError(t, "round", m.once())
		simWant(t, "offers", len(m.seen()), 1)
		m.run()
		simPass(26 * time.Hour) // a server's passing fault looks the same, so it is tried for a day
		since := time.Now()
		simPass(24 * time.Hour)
		simList(t, "contacts about it afterwards", simWords(m.contacts(since.Add(time.Second))))
	})
}
