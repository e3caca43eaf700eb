package omahaclient_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
)

// An app that waits for its next check has no goroutine: a Client of a thousand apps has as many as a Client of one.
func TestUpdates_idleAppsHaveNoGoroutine(t *testing.T) {
	var one, thousand int
	inBubble(t, func(t *testing.T, w *world) { one = goroutinesWhileIdle(t, w, 1) })
	inBubble(t, func(t *testing.T, w *world) { thousand = goroutinesWhileIdle(t, w, 1000) })
	want(t, "goroutines of a Client of 1000 apps, beside those of a Client of one", thousand, one)
	want(t, "goroutines of a Client of one", one, 1) // the stream's
}

// goroutinesWhileIdle is how many goroutines of ours there are when the server has answered for n apps and its connections are gone.
func goroutinesWhileIdle(t *testing.T, w *world, n int) int {
	t.Helper()
	hc := w.Client()
	opts := []omahaclient.Option{omahaclient.WithHTTPClient(hc)}
	for i := range n {
		id := fmt.Sprintf("io.example.App%d", i)
		w.offering(id, "1.0.0") // which runs here
		opts = append(opts, app(id))
	}
	c := w.client(opts...)
	w.updates(c)
	for range 2 { // checks
		time.Sleep(time.Until(status(t, c, "io.example.App0").NextCheck) + time.Minute)
	}
	hc.CloseIdleConnections() // each has goroutines, of net/http's and of the server's
	synctest.Wait()
	for _, s := range c.Status() {
		if s.Phase != omahaclient.Idle || s.LastCheck.IsZero() || s.LastError != nil {
			t.Fatalf("%+v; want an idle app, and an answer", s)
		}
	}
	return goroutinesOf("nebraska/omahaclient.(*") // at work in a method of ours, or started by one
}
