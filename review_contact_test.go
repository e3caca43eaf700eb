package omahaclient_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// To a server they are one app: each would end the other one's updates.
func TestNew_refusesAnAppTwiceWithBraces(t *testing.T) {
	w := onSockets(t)
	_, err := omahaclient.New(w.URL(), w.options(app(omaha.FlatcarAppID), app("{"+omaha.FlatcarAppID+"}"))...)
	wantErr(t, err, omahaclient.ErrInvalidOption)
}

// gone is a context that has ended: an event sent with it stays queued.
func gone() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// An endpoint that is wrong is no outage: a cron job does not wait for it, though reports are pending.
func TestUpdatesOnce_endsAtAFinalAnswerWithReportsLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		c := w.client(app(appA))
		wantErr(t, c.SendEvent(gone(), appA, omaha.Event{Type: omaha.EventTypeUpdateComplete}), context.Canceled)
		w.FailFunc(func(testserver.Request) testserver.Fault { return testserver.StatusFault(http.StatusNotFound) })
		failures := failuresIn(w.once(c).closed())
		wantFailure(t, failures[appA], "report", omaha.ExitHTTPBase+404)
		w.Heal()
		must(t, w.once(c).closed())
	})
}

// So is it for an app that was removed with a verdict undelivered.
func TestUpdatesOnce_endsAtAFinalAnswerWithARemovedApp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		w.offering(appB, "1.0.0")
		c := w.client(app(appB))
		wantErr(t, c.SendEvent(gone(), appB, omaha.Event{Type: omaha.EventTypeUpdateComplete}), context.Canceled)
		w.FailFunc(func(testserver.Request) testserver.Fault { return testserver.StatusFault(http.StatusNotFound) })
		must(t, c.Close())
		c = w.client(app(appA))
		failures := failuresIn(w.once(c).closed())
		wantFailure(t, failures[strings.ToLower(appB)], "report", omaha.ExitHTTPBase+404)
		w.Heal()
		must(t, w.once(c).closed())
		want(t, "B's events", w.events(appB), "3/0 1")
	})
}

// Reports that fill a request of their own are followed by the check.
func TestUpdatesOnce_checksAfterMoreReportsThanARequestHolds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		c := w.client(app(appA))
		long := strings.Repeat("&", 256) // five bytes each in XML: 48 events have 120 KB
		for range 48 {
			wantErr(t, c.SendEvent(gone(), appA, omaha.Event{Type: omaha.EventTypeUpdateComplete, PreviousVersion: long, NextVersion: long}), context.Canceled)
		}
		must(t, w.once(c).closed())
		want(t, "reports left", status(t, c, appA).PendingEvents, 0)
		want(t, "checks", len(w.checks(appA)), 1)
		if n := len(w.Requests()); n < 3 {
			t.Errorf("%d requests for 120 KB", n)
		}
	})
}

// A server that says "in progress" and takes no reports is not asked about it every minute.
func TestUpdates_asksAtTheUsualIntervalAServerThatTakesNoReports(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.group(appA)
		w.FailFunc(func(testserver.Request) testserver.Fault {
			return testserver.Fault{Edit: func(apps []testserver.AppAnswer) []testserver.AppAnswer {
				for i := range apps {
					apps[i].Status, apps[i].Events = "error-updateInProgressOnInstance", 0
				}
				return apps
			}}
		})
		c := w.client(app(appA))
		w.updates(c).silent(24 * time.Hour)
		if n := len(w.checks(appA)); n > 40 {
			t.Errorf("%d checks in a day", n)
		}
	})
}

// The log is written without holding anything that a log may want.
func TestCheckNow_logMayAskForStatus(t *testing.T) {
	w := onSockets(t)
	var ask func()
	c := w.client(app(appA), onMessage("check failed", func() { ask() }))
	asked := make(chan struct{})
	ask = func() { c.Status(); close(asked) }
	w.updates(c)
	for status(t, c, appA).NextCheck.IsZero() { // no stream is open yet
		runtime.Gosched()
	}
	w.FailFunc(func(testserver.Request) testserver.Fault { return testserver.StatusFault(http.StatusNotFound) })
	answered := make(chan error, 1)
	go func() { answered <- c.CheckNow(context.Background()) }()
	select {
	case <-asked:
	case <-time.After(w.patience):
		panic( // Close would wait as well
			"Status waits for the log, which waits for Status")
	}
	var answer *omaha.AnswerError
	if err := <-answered; !errors.As(err, &answer) {
		t.Errorf("CheckNow = %v", err)
	}
}

// A success and a check in one request, whose answer is lost, would be sent again: the success of the first update would
// complete the second one, which the check was granted.
func TestOutbox_successDoesNotCompleteTheNextUpdate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		o := s.next()
		synctest.Wait()
		w.Offline(true)
		must(t, o.Ack(nil))
		g.Publish(release(appA, "3.0.0"))
		s.silent(10 * time.Minute)
		w.Offline(false)
		lost := false
		w.FailFunc(func(r testserver.Request) testserver.Fault {
			f := testserver.Fault{Reset: !lost && r.Apps[0].Check}
			lost = lost || f.Reset
			return f
		})
		must(t, c.CheckNow(t.Context()))
		want(t, "version", s.next().Version, "3.0.0")
		synctest.Wait()
		want(t, "history", w.history(appA), "granted, downloading, downloaded, complete, granted, downloading, downloaded")
	})
}
