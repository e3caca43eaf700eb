package omahaclient_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
)

func TestClose_endsTheStreamAndWaitsForIt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		fetching, returned := false, false
		slow := fetchFunc(func(ctx context.Context, _ fetcher.Job) (fetcher.Payload, error) {
			fetching = true
			<-ctx.Done()
			wantErr(t, context.Cause(ctx), omahaclient.ErrClosed)
			time.Sleep(3 * time.Second)
			returned = true
			return fetcher.Payload{}, ctx.Err()
		})
		c := w.client(app(appA), omahaclient.WithFetcher("binary", slow))
		s := w.updates(c)
		second := w.updates(c) // waits
		w.reaches(appA, testserver.Downloading)
		synctest.Wait()
		must(t, c.Close())
		want(t, "fetching", fetching, true)
		want(t, "the fetch has returned", returned, true)
		wantErr(t, s.closed(), omahaclient.ErrClosed)
		wantErr(t, second.closed(), omahaclient.ErrClosed)
	})
}

func TestClose_triesDeliveryOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		o := s.next()
		s.stop()
		must(t, o.Ack(nil))
		must(t, c.Close())
		want(t, "history", w.history(appA), "granted, downloading, downloaded, complete")
	})
}

func TestClose_waitsAtMostFiveSeconds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault testserver.Fault
	}{
		{"no answer", testserver.Fault{Stall: true, Unseen: true}},
		{"503", testserver.StatusFault(503)},
		{"events are dropped", testserver.DropEvents()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				c := w.client(app(appA))
				s := w.updates(c)
				o := s.next()
				synctest.Wait()
				s.stop()
				w.Fail(-1, tc.fault)
				must(t, o.Ack(nil))
				start := time.Now()
				must(t, c.Close()) // what is left is the next Client's, which is no failure
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
				w.Heal()
				c = w.client(appAt(appA, ""))
				want(t, "reports left", status(t, c, appA).PendingEvents, 1)
			})
		})
	}
}

func TestClose_releasesTheDirectory(t *testing.T) {
	w := onSockets(t)
	c := w.client(app(appA))
	if _, err := omahaclient.New(w.URL(), w.options(app(appA))...); !errors.Is(err, omahaclient.ErrStateLocked) {
		t.Fatalf("error %v; want %v", err, omahaclient.ErrStateLocked)
	}
	must(t, c.Close())
	must(t, w.client(app(appA)).Close())
}

func TestClose_idempotentAndConcurrent(t *testing.T) {
	w := onSockets(t)
	w.offering(appA, "2.0.0")
	c := w.client(app(appA), quick())
	s := w.updates(c)
	s.next()
	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() {
			must := c.Close()
			if must != nil {
				t.Errorf("Close: %v", must)
			}
			// Whoever returned finds it done.
			if again, err := omahaclient.New(w.URL(), w.options(app(appA))...); err == nil {
				again.Close()
			} else if !errors.Is(err, omahaclient.ErrStateLocked) { // another one is trying the same
				t.Errorf("New: %v", err)
			}
		})
	}
	calls.Wait()
	must(t, c.Close())
	wantErr(t, s.closed(), omahaclient.ErrClosed)
}

func TestClose_thenUpdatesIsAClosedChannel(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		must(t, c.Close())
		for _, ch := range []<-chan omahaclient.UpdateOffer{c.Updates(t.Context()), c.UpdatesOnce(t.Context())} {
			select {
			case _, open := <-ch:
				want(t, "open", open, false)
			default:
				t.Error("the channel is not closed")
			}
			wantErr(t, c.Err(), omahaclient.ErrClosed)
		}
		want(t, "requests", len(w.Requests()), 0)
		for _, err := range []error{c.Confirm(appA), c.CheckNow(t.Context()), c.Flush(t.Context())} {
			wantErr(t, err, omahaclient.ErrClosed)
		}
		want(t, "status after Close", status(t, c, appA).Version, "1.0.0")
	})
}
