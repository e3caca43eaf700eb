package omahaclient_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// SendEvent, Flush and the outbox behind them.

// downloading is an event of a program that fetches its update itself.
var downloading = omaha.Event{
	Type: omaha.EventTypeUpdateDownloadStarted, Result: omaha.EventResultSuccess, PreviousVersion: "1.0.0", NextVersion: "2.0.0",
}

// underWay lets the server count an update of this machine as granted.
func (w *world) underWay(id string) {
	w.group(id)
	w.PutInstance(testserver.Instance{
		AppID: id, MachineID: machine, Track: track, Version: "1.0.0",
		Status: testserver.Granted, GrantedVersion: "2.0.0", GrantedAt: time.Now(),
	})
}

func TestSendEvent_waitsForDelivery(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.underWay(appA)
		c := w.client(app(appA))
		must(t, c.SendEvent(t.Context(), strings.ToUpper(appA), downloading))
		want(t, "status", w.instance(appA).Status, testserver.Downloading)
		failed := omaha.Event{Type: omaha.EventTypeUpdateComplete, Result: omaha.EventResultError, ErrorCode: 77, PreviousVersion: "1.0.0"}
		must(t, c.SendEvent(t.Context(), appA, failed))
		want(t, "history", w.history(appA), "downloading, error 77")
		contacts := w.contacts(appA)
		var sent testserver.Event
		for _, c := range contacts {
			for _, e := range c.Events {
				if sent.Type == 0 {
					sent = e
				}
			}
		}
		want(t, "event", sent, testserver.Event{Type: 13, Result: 1, PreviousVersion: "1.0.0", NextVersion: "2.0.0"})

		w.Offline(true)
		time.AfterFunc(3*time.Hour, func() { w.Offline(false) })
		start := time.Now()
		must(t, c.SendEvent(t.Context(), appA, downloading))
		if took := time.Since(start); took < 3*time.Hour {
			t.Errorf("it returned after %v, before the server had it", took)
		}
		want(t, "reports left", status(t, c, appA).PendingEvents, 0)
	})
}

func TestSendEvent_staysQueuedWhenCtxEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.underWay(appA)
		c := w.client(app(appA))
		w.Offline(true)
		for _, e := range []omaha.Event{downloading, {Type: 14, Result: 1}, {Type: 3, Result: 1}} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errDone)
			wantErr(t, c.SendEvent(ctx, appA, e), errDone)
			cancel()
		}
		want(t, "reports left", status(t, c, appA).PendingEvents, 3)
		w.dir = copyOf(t, w.dir) // durable, whatever becomes of this process
		must(t, c.Close())
		w.Offline(false)
		c = w.client(app(appA))
		want(t, "reports left to the next process", status(t, c, appA).PendingEvents, 3)
		w.flush(c)
		want(t, "events, in their order", w.events(appA), "13/1, 14/1, 3/1")
		want(t, "history", w.history(appA), "downloading, downloaded, complete")
	})
}

// What SendEvent took is delivered, however long the server is away; what it has no room for it says.
func TestSendEvent_dropsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.underWay(appA)
		w.underWay(appB)
		c := w.client(app(appA), app(appB))
		w.Offline(true)
		taken := 0
		for ; taken < 1000; taken++ {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errDone)
			err := c.SendEvent(ctx, appA, omaha.Event{Type: 13, Result: 1, ErrorCode: omaha.ExitCode(taken)})
			cancel()
			if errors.Is(err, omahaclient.ErrOutboxFull) {
				break
			}
			wantErr(t, err, errDone)
		}
		want(t, "events taken", taken, 48)
		want(t, "reports left", status(t, c, appA).PendingEvents, taken)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errDone)
		defer cancel()
		wantErr(t, c.SendEvent(ctx, appB, downloading), errDone) // another app's has room of its own
		w.Offline(false)
		w.flush(c)
		var codes []int
		for _, c := range w.contacts(appA) {
			for _, e := range c.Events {
				codes = append(codes, e.ErrorCode)
			}
		}
		want(t, "delivered", len(slices.Compact(codes)), taken)
		want(t, "in their order", slices.IsSorted(codes), true)
		must(t, c.SendEvent(t.Context(), appA, downloading))
	})
}

// However many wait in an outage, the server is asked no more often.
func TestSendEvent_waitersShareTheirTries(t *testing.T) {
	requests := map[int]int{}
	for _, waiters := range []int{1, 40} {
		inBubble(t, func(t *testing.T, w *world) {
			w.underWay(appA)
			c := w.client(app(appA))
			w.FailFunc(func(testserver.Request) testserver.Fault { return testserver.StatusFault(503) })
			var all sync.WaitGroup
			for range waiters {
				all.Go(func() { must(t, c.SendEvent(t.Context(), appA, downloading)) })
			}
			time.Sleep(3 * time.Hour)
			requests[waiters] = len(w.Requests())
			w.Heal()
			all.Wait()
		})
	}
	if one, many := requests[1], requests[40]; one < 5 || many > 2*one {
		t.Errorf("%d requests for one, %d for 40", one, many)
	}
}

func TestSendEvent_refusesFinalEventsOfAnOpenUpdate(t *testing.T) {
	for _, tc := range []struct {
		name string
		open func(*testing.T, *world, *stream)
		last string
	}{
		{"fetching", func(_ *testing.T, w *world, _ *stream) {
			w.Payloads.Fail("", -1, testserver.FileFault{Stall: true})
			w.reaches(appA, testserver.Downloading)
		}, "13/1"},
		{"offered", func(_ *testing.T, _ *world, s *stream) { s.next() }, "13/1, 14/1"},
		{"waiting for a restart", func(t *testing.T, _ *world, s *stream) { must(t, s.next().Installed()) }, "13/1, 14/1, 800/1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				c := w.client(app(appA))
				tc.open(t, w, w.updates(c))
				synctest.Wait()
				for result := range 3 {
					err := c.SendEvent(t.Context(), appA, omaha.Event{Type: omaha.EventTypeUpdateComplete, Result: omaha.EventResult(result)})
					if err == nil || !strings.Contains(err.Error(), "settle the offer") {
						t.Errorf("3/%d: %v; want a refusal that says what to do", result, err)
					}
				}
				want(t, "reports left", status(t, c, appA).PendingEvents, 0)
				must(t, c.SendEvent(t.Context(), appA, omaha.Event{Type: 2, Result: 1})) // others may
				want(t, "events", w.events(appA), tc.last+", 2/1")
			})
		})
	}
}

func TestSendEvent_errors(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.client(app(appA))
		wantErr(t, c.SendEvent(t.Context(), appB, downloading), omahaclient.ErrUnknownApp)
		want(t, "requests", len(w.Requests()), 0)

		err := c.SendEvent(t.Context(), appA, downloading) // the server knows no such app
		wantFailure(t, err, "report", omaha.ExitOmahaRequest)
		want(t, "reports left", status(t, c, appA).PendingEvents, 1) // it may come to know it
		if reason := status(t, c, appA).Reason; !strings.Contains(reason, "refuses") {
			t.Errorf("reason %q", reason)
		}
		wantFailure(t, c.Flush(t.Context()), "report", omaha.ExitOmahaRequest)
		w.underWay(appA)
		w.flush(c)
		want(t, "status", w.instance(appA).Status, testserver.Downloading)

		must(t, c.Close())
		wantErr(t, c.SendEvent(t.Context(), appA, downloading), omahaclient.ErrClosed)
		wantErr(t, c.Flush(t.Context()), omahaclient.ErrClosed)
	})
}

func TestFlush(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "2.0.0")
		c := w.client(app(appA), app(appB))
		must(t, c.Flush(t.Context()))
		want(t, "requests for nothing", len(w.Requests()), 0)
		s := w.updates(c)
		a, b := s.next(), s.next()
		s.stop()
		w.Offline(true)
		must(t, a.Ack(nil))
		must(t, b.Ack(exitError(9)))
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errDone)
		defer cancel()
		wantErr(t, c.Flush(ctx), errDone)
		time.AfterFunc(5*time.Hour, func() { w.Offline(false) })
		must(t, c.Flush(t.Context()))
		want(t, "A's status", w.instance(a.AppID).Status, testserver.Complete)
		want(t, "B's status", w.instance(b.AppID).Status, testserver.Error)
		for _, s := range c.Status() {
			want(t, "reports left", s.PendingEvents, 0)
		}
	})
}

// What a process left in its outbox goes out by whatever comes first in the next one. New itself sends nothing.
func TestOutbox_delivers(t *testing.T) {
	for _, tc := range []struct {
		name  string
		comes func(*testing.T, *world, *omahaclient.Client)
		want  string
	}{
		{"Updates", func(_ *testing.T, w *world, c *omahaclient.Client) { w.updates(c); synctest.Wait() }, "13/1"}, // before any check is due
		{"UpdatesOnce", func(_ *testing.T, w *world, c *omahaclient.Client) { w.once(c); synctest.Wait() }, "13/1"},
		{"Flush", func(t *testing.T, _ *world, c *omahaclient.Client) { must(t, c.Flush(t.Context())) }, "13/1"},
		{"CheckNow", func(t *testing.T, _ *world, c *omahaclient.Client) { must(t, c.CheckNow(t.Context())) }, "13/1"},
		{"SendEvent", func(t *testing.T, _ *world, c *omahaclient.Client) {
			must(t, c.SendEvent(t.Context(), appA, omaha.Event{Type: 14, Result: 1}))
		}, "13/1, 14/1"},
		{"Close", func(t *testing.T, _ *world, c *omahaclient.Client) { must(t, c.Close()) }, "13/1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.underWay(appA)
				w.Offline(true)
				c := w.client(app(appA))
				ctx, cancel := shortly()
				defer cancel()
				wantErr(t, c.SendEvent(ctx, appA, downloading), context.DeadlineExceeded)
				must(t, c.Close())
				w.Offline(false)

				c = w.client(app(appA))
				time.Sleep(time.Hour)
				want(t, "requests by New", len(w.Requests()), 0)
				tc.comes(t, w, c)
				want(t, "events", w.events(appA), tc.want)
				want(t, "reports left", status(t, c, appA).PendingEvents, 0)
			})
		})
	}
}

// Delivered means: the event's own <event status="ok"> came, and the app's status is ok or speaks of the check only.
func TestOutbox_deliveredMeans(t *testing.T) {
	edit := func(change func(*testserver.AppAnswer)) testserver.Fault {
		return testserver.Fault{Edit: func(apps []testserver.AppAnswer) []testserver.AppAnswer {
			for i := range apps {
				change(&apps[i])
			}
			return apps
		}}
	}
	appStatus := func(status string) testserver.Fault {
		return edit(func(a *testserver.AppAnswer) { a.Status, a.Check = status, "error-internal" })
	}
	for _, tc := range []struct {
		name      string
		fault     testserver.Fault
		delivered bool
	}{
		{"all is well", testserver.Fault{}, true},
		{"no event element", testserver.DropEvents(), false},
		{"event status is an error", edit(func(a *testserver.AppAnswer) { a.EventStatus = "error" }), false},
		{"updates disabled", appStatus("error-updatesDisabled"), true},
		{"limit per period", appStatus("error-maxUpdatesPerPeriodLimitReached"), true},
		{"limit of concurrent updates", appStatus("error-maxConcurrentUpdatesLimitReached"), true},
		{"limit of timed out updates", appStatus("error-maxTimedOutUpdatesLimitReached"), true},
		{"in progress", appStatus("error-updateInProgressOnInstance"), true},
		{"unknown app", appStatus("error-unknownApplication"), false},
		{"no package information", appStatus("error-failedToRetrieveUpdatePackageInfo"), false},
		{"another app", testserver.WrongApp(appB), false},
		{"lost answer", testserver.LostAnswer(), false},
		{"lost request", testserver.LostRequest(), false},
		{"empty answer", testserver.EmptyBody(), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.underWay(appA)
				c := w.client(app(appA))
				must(t, c.CheckNow(t.Context())) // a ping
				w.Fail(-1, tc.fault)
				ctx, cancel := shortly()
				defer cancel()
				err := c.SendEvent(ctx, appA, downloading)
				if tc.delivered {
					must(t, err)
					want(t, "reports left", status(t, c, appA).PendingEvents, 0)
					return
				}
				if err == nil {
					t.Error("no error")
				}
				want(t, "reports left", status(t, c, appA).PendingEvents, 1)
				w.Heal()
				w.flush(c)
				want(t, "status", w.instance(appA).Status, testserver.Downloading)
			})
		})
	}
}

// With several events in one request, those taken so far are not sent again.
func TestOutbox_takesUpWhereTheServerStopped(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.underWay(appA)
		c := w.client(app(appA))
		w.Offline(true)
		for _, e := range []omaha.Event{downloading, {Type: 14, Result: 1}, {Type: 3, Result: 1}} {
			ctx, cancel := shortly()
			wantErr(t, c.SendEvent(ctx, appA, e), context.DeadlineExceeded)
			cancel()
		}
		w.Offline(false)
		w.Fail(1, testserver.Fault{}) // the ping that goes first
		w.Fail(1, testserver.Fault{Edit: func(apps []testserver.AppAnswer) []testserver.AppAnswer {
			apps[0].Events = 2
			return apps
		}})
		w.flush(c)
		want(t, "events", w.events(appA), "13/1, 14/1, 3/1, 3/1")
	})
}
