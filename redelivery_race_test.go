package omahaclient_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// A verdict on an offer's earlier copy, while the next stream takes the offer up again: the app goes on afterwards.
func TestUpdates_verdictWhileOfferedAgain(t *testing.T) {
	w := onSockets(t)
	g := w.group(appA)
	c := w.client(app(appA), quick(), omahaclient.WithFetcher("binary", fetchedFromMemory()))
	files := make([]testserver.File, 1000) // many, so that there is a moment between what is read and what is planned
	for i := range files {
		files[i] = testserver.File{Name: fmt.Sprint(i), Content: []byte{1}}
	}
	for i := range 12 {
		version := fmt.Sprintf("%d.0.0", i+2)
		g.Publish(testserver.Release{Version: version, Files: files})
		s := w.updates(c)
		o := s.next()
		want(t, "offered", o.Version, version)
		s.stop()
		acked := make(chan error, 1)
		time.AfterFunc(rand.N(20*time.Millisecond), func() { acked <- o.Ack(nil) })
		s = w.updates(c)
		must(t, <-acked)
		w.flush(c)
		s.stop()
		g.Publish(testserver.Release{Version: version[:len(version)-1] + "1", Files: files[:1]})
		s = w.updates(c)
		must(t, s.next().Ack(nil)) // it would never come to a client that waits for the settled one
		s.stop()
		w.flush(c)
	}
}
