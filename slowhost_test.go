package omahaclient_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/omaha"
)

// What never comes to an end holds its worker for a day, and is tried again.
func TestWithWorkers_endlessFetchHoldsOneForADay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		g := w.group(appB)
		fetch := fetchFunc(func(ctx context.Context, job fetcher.Job) (fetcher.Payload, error) {
			if strings.Contains(job.Source.URLs[0], appA) {
				<-ctx.Done()
				return fetcher.Payload{}, ctx.Err()
			}
			return fetchedFromMemory().Fetch(ctx, job)
		})
		c := w.client(app(appA), app(appB), omahaclient.WithWorkers(1), omahaclient.WithFetcher("binary", fetch))
		s := w.updates(c)
		s.silent(time.Hour)
		g.Publish(release(appB, "2.0.0"))
		start := time.Now()
		want(t, "offered", s.next().AppID, appB)
		if took := time.Since(start); took > 25*time.Hour {
			t.Errorf("it took %v", took)
		}
		synctest.Wait() // the worker is free before the failure is on disk
		failure := status(t, c, appA).LastError
		wantFailure(t, failure, "fetch", omaha.ExitTransfer)
		wantErr(t, failure, fetcher.ErrTooSlow)
		s.silent(48 * time.Hour)
		if n := w.Grants(appA); n < 2 {
			t.Errorf("%d attempts", n)
		}
	})
}
