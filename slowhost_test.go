package omahaclient_test

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// Hosts that keep just above the floor rate hold all workers for a day at most, and what came by then is not fetched again.
func TestWithWorkers_slowHostsHoldThemForADay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const slow, rate = "io.example.slow", 100
		size := 30 * 3600 * rate // 30 hours
		var opts []omahaclient.Option
		for i := range 2 {
			id := fmt.Sprint(slow, i)
			w.group(id).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: make([]byte, size+i)}}})
			opts = append(opts, app(id))
		}
		g := w.group(appA)
		w.Payloads.FailFunc(func(r testserver.FileRequest) testserver.FileFault {
			if r.Path == fileOf(appA, "2.0.0") {
				return testserver.FileFault{}
			}
			return testserver.FileFault{Rate: rate}
		})
		c := w.client(append(opts, app(appA), omahaclient.WithWorkers(2))...)
		s := w.updates(c)
		s.silent(time.Hour)
		g.Publish(release(appA, "2.0.0"))
		start := time.Now()
		want(t, "offered", s.next().AppID, appA)
		if took := time.Since(start); took > 25*time.Hour {
			t.Errorf("it took %v", took)
		}
		failure := cmp.Or(status(t, c, slow+"0").LastError, status(t, c, slow+"1").LastError)
		wantFailure(t, failure, "fetch", omaha.ExitTransfer)
		wantErr(t, failure, fetcher.ErrTooSlow)
		s.next() // with what came in the first 24 hours
		if took := time.Since(start); took > 40*time.Hour {
			t.Errorf("the slow one took %v, as if it had begun anew", took)
		}
	})
}
