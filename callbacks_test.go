package omahaclient_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
)

// A panic in a function that the program gave ends neither the program nor anybody's updates, and the log says where it was.

func TestPanic_inAGateKeepsItClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "2.0.0")
		var well atomic.Bool
		c := w.client(app(appA), app(appB), omahaclient.WithGate(func(id string, _ time.Time) (bool, time.Time) {
			if id == appA && !well.Load() {
				panic("gate of A")
			}
			return true, time.Time{}
		}))
		s := w.updates(c)
		want(t, "offered", s.next().AppID, appB)
		s.silent(3 * time.Hour)
		want(t, "checks of A", len(w.checks(appA)), 0)
		w.wantStack(t, "gate of A")
		well.Store(true)
		want(t, "offered", s.next().AppID, appA)
	})
}

func TestPanic_inProgressCostsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA), omahaclient.WithProgress(func(p omahaclient.Progress) { panic("progress of " + p.Payload) }))
		must(t, w.updates(c).next().Ack(nil))
		w.flush(c)
		want(t, "history", w.history(appA), "granted, downloading, downloaded, complete")
		w.wantStack(t, "progress of app.bin")
	})
}

func TestPanic_inAuthorizationIsAnErrorOfTheCheck(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA), omahaclient.WithAuthorization(func(*http.Request) error { panic("no token") }))
		err := c.CheckNow(t.Context())
		if err == nil || !strings.Contains(err.Error(), "WithAuthorization panicked: no token") {
			t.Errorf("got %v", err)
		}
		want(t, "requests", len(w.Requests()), 0)
		w.wantStack(t, "no token")
	})
}

func TestPanic_inTheAlarmCostsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		w.Offline(true)
		c := w.client(app(appA), omahaclient.WithMaxStaleness(24*time.Hour, func(s omahaclient.Staleness) { panic("alarm of " + s.AppID) }))
		s := w.updates(c)
		s.silent(48 * time.Hour)
		w.wantStack(t, "alarm of "+appA)
		w.Offline(false)
		s.silent(3 * time.Hour)
		want(t, "last error", status(t, c, appA).LastError, nil)
	})
}

func TestPanic_inAFetcherIsLoggedWithItsStack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA), omahaclient.WithFetcher("binary", sickFetcher{}))
		w.updates(c).silent(time.Hour)
		if h := w.history(appA); !strings.HasPrefix(h, "granted, downloading, error 9") {
			t.Errorf("history: %s", h)
		}
		w.wantStack(t, "sick fetcher")
	})
}

type sickFetcher struct{}

func (sickFetcher) Fetch(context.Context, fetcher.Job) (fetcher.Payload, error) {
	panic("sick fetcher")
}

// wantStack wants the log to name what panicked, and where in these tests.
func (w *world) wantStack(t *testing.T, value string) {
	t.Helper()
	for _, line := range w.log.lines("panicked") {
		if strings.Contains(line, value) && strings.Contains(line, "callbacks_test.go") {
			return
		}
	}
	t.Errorf("the log does not say where %q panicked", value)
}
