package omahaclient_test

import (
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// A payload that was announced without a hash is known by the one that it had when it was fetched: the offer comes again
// after a restart without a second download.
func TestRedelivery_ofAnUnverifiedPayload(t *testing.T) {
	simulate(t, func(t *testing.T, w *simWorld) {
		w.channel(testserver.Policy{}).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{
			{Name: "app.bin", Content: simContent("2.0.0"), SHA1: testserver.None},
		}})
		m := w.machine("m")
		m.decides(func(omahaclient.UpdateOffer) error { return nil }) // no verdict
		start := func() {
			m.start(simAppAt("1.0.0"), omahaclient.WithFetcher("binary", fetcher.HTTP{Client: w.Client(), AllowUnverified: true}))
			m.run()
			simPass(20 * time.Minute)
		}
		start()
		fetched := len(w.Payloads.Requests())
		m.kill()
		start()
		simWant(t, "offers", len(m.seen()), 2)
		simWant(t, "downloads after the restart", len(w.Payloads.Requests())-fetched, 0)
	})
}
