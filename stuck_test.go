package omahaclient_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// A server that answers, and does not acknowledge a report, keeps the app from its updates for a day and no longer.

// refusing makes the server take events but for those.
func (w *world) refusing(these func(testserver.Event) bool) {
	w.FailFunc(func(r testserver.Request) testserver.Fault {
		return testserver.Fault{Edit: func(apps []testserver.AppAnswer) []testserver.AppAnswer {
			for i := range apps {
				for _, e := range r.Apps[i].Events {
					if these(e) {
						apps[i].EventStatus = "error-invalidEvent"
					}
				}
			}
			return apps
		}}
	})
}

func TestStuck_successThatIsNeverAcknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		o := s.next()
		synctest.Wait()
		w.refusing(func(testserver.Event) bool { return true })
		must(t, o.Ack(nil))
		acked := time.Now()
		g.Publish(release(appA, "3.0.0"))
		s.silent(23 * time.Hour) // it may come to its senses
		want(t, "offered", s.next().Version, "3.0.0")
		if took := time.Since(acked); took > 36*time.Hour {
			t.Errorf("it took %v", took)
		}
		want(t, "lines in the log", len(w.log.lines("report given up")), 1)
	})
}

func TestStuck_eventOfTheProgramThatIsNeverAcknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		w.refusing(func(e testserver.Event) bool { return e.Type == 54 })
		sent := make(chan error, 1)
		go func() { sent <- c.SendEvent(t.Context(), appA, omaha.Event{Type: 54, Result: 1}) }()
		synctest.Wait()
		s := w.updates(c)
		must(t, s.next().Ack(nil))
		err := <-sent
		var failure *omahaclient.Error
		if !errors.As(err, &failure) || failure.Op != "report" {
			t.Errorf("SendEvent: %v; want an error, since nobody has the event", err)
		}
		w.flush(c)
		want(t, "status", w.instance(appA).Status, testserver.Complete)
	})
}

// What is flushed and given up is no success, whatever is delivered behind it; the next Flush has nothing to complain of.
func TestStuck_flushTellsOfWhatWasGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		w.refusing(func(e testserver.Event) bool { return e.Type == 54 })
		done, cancel := context.WithCancel(t.Context())
		cancel()
		for _, event := range []omaha.EventType{54, 55} { // queued, whatever happens
			if err := c.SendEvent(done, appA, omaha.Event{Type: event, Result: 1}); !errors.Is(err, context.Canceled) {
				t.Fatalf("SendEvent: %v", err)
			}
		}
		second := make(chan error, 1)
		go func() { second <- c.SendEvent(t.Context(), appA, omaha.Event{Type: 56, Result: 1}) }()
		synctest.Wait()
		err := c.Flush(t.Context())
		wantFailure(t, err, "report", omaha.ExitError)
		if err := <-second; err != nil {
			t.Errorf("SendEvent of an event that was delivered: %v", err)
		}
		want(t, "pending", status(t, c, appA).PendingEvents, 0)
		want(t, "lines in the log", len(w.log.lines("report given up")), 1)
		must(t, c.SendEvent(t.Context(), appA, omaha.Event{Type: 57, Result: 1}))
		must(t, c.Flush(t.Context()))
	})
}

// A round does not wait for what another try will not change.
func TestStuck_roundEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.refusing(func(testserver.Event) bool { return true })
		c := w.client(app(appA))
		s := w.once(c)
		must(t, s.next().Ack(nil))
		start := time.Now()
		wantFailure(t, failuresIn(s.closed())[appA], "report", omaha.ExitError)
		if took := time.Since(start); took > time.Hour {
			t.Errorf("it took %v", took)
		}
		if status(t, c, appA).PendingEvents == 0 {
			t.Error("the reports are gone")
		}
	})
}
