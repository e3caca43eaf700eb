package omahaclient_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// Where the server refuses even the ping that has to come before old reports, it would acknowledge and drop the reports
// too: they wait for a ping that is taken.
func TestOutbox_waitsForAPingThatIsTaken(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		simPublish(w.channel(testserver.Policy{}), "2.0.0")
		m := w.machine("m")
		m.decides(func(o omahaclient.UpdateOffer) error {
			m.cut(true)
			return o.Ack(nil)
		})
		m.start(simAppAt("1.0.0"))
		m.run()
		simPass(30 * time.Minute)
		m.kill()
		simPass(30 * time.Hour)
		m.cut(false)
		w.groupOff()
		w.Fail(1, testserver.AppError("error-failedToRetrieveUpdatePackageInfo"))
		since := time.Now()
		m.start(simAppAt("2.0.0"))
		m.run()
		simPass(3 * time.Hour)
		words := simWords(m.contacts(since))
		first := slices.IndexFunc(m.contacts(since), func(c simContact) bool { return len(simEvents([]simContact{c})) > 0 })
		if first < 2 {
			t.Errorf("reports came after %d contacts; want a refused ping and a good one before: %v", first, words)
		}
		simWant(t, "pending events", m.status().PendingEvents, 0)
		simWant(t, "history", simHistory(m.record()), "granted, downloading, downloaded, complete")
	})
}
