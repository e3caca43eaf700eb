package omahaclient_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/omaha"
)

// All methods at once, while updates go through; the race detector looks on.
func TestClient_isSafeForConcurrentUse(t *testing.T) {
	w := onSockets(t)
	a, b := w.offering(appA, "2.0.0"), w.offering(appB, "2.0.0")
	p := &tale{}
	c := w.client(app(appA, omahaclient.WithDowngrades()), app(appB), quick(), p.option())
	s := w.updates(c)
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for _, call := range []func() error{
		func() error { return c.CheckNow(ctx) },
		func() error { return c.CheckNow(ctx, appB) },
		func() error { return c.SendEvent(ctx, appA, omaha.Event{Type: 2, Result: 1}) },
		func() error { return c.Flush(ctx) },
		func() error { return c.Confirm(appB) },
		func() error { c.Status(); return c.Err() },
	} {
		calls.Go(func() {
			for ctx.Err() == nil {
				if err := call(); err != nil && ctx.Err() == nil {
					t.Errorf("call: %v", err)
				}
				pause(ctx, 5*time.Millisecond)
			}
		})
	}
	for i := range 6 {
		o := s.next()
		verdict := []func(error) error{o.Ack, func(error) error { return o.Defer(time.Millisecond) }}[i%2]
		for range 3 {
			calls.Go(func() {
				if err := verdict(nil); err != nil && !errors.Is(err, omahaclient.ErrSettled) {
					t.Errorf("verdict: %v", err)
				}
			})
		}
		a.Publish(release(appA, []string{"3.0.0", "4.0.0", "5.0.0"}[i/2]))
		b.Publish(release(appB, []string{"3.0.0", "4.0.0", "5.0.0"}[i/2]))
	}
	cancel()
	calls.Wait()
	must(t, c.Close())
	wantErr(t, s.closed(), omahaclient.ErrClosed)
}

// pause lets others go first.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
