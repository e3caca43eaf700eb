package omahaclient_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

func TestStatus_inTheOrderOfTheOptions(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.client(app(appC), omahaclient.WithWorkers(2), app(appA), omahaclient.WithApp(appB, "3.0.0", omahaclient.WithChannel("beta")))
		var ids []string
		for _, s := range c.Status() {
			ids = append(ids, s.AppID)
		}
		want(t, "order", strings.Join(ids, " "), appC+" "+appA+" "+appB)
		st := status(t, c, appB)
		want(t, "channel", st.Channel, "beta")
		want(t, "version", st.Version, "3.0.0")
		want(t, "phase", st.Phase, omahaclient.Idle)
		want(t, "last check", st.LastCheck, time.Time{})
		want(t, "next check", st.NextCheck, time.Time{})
		if !strings.Contains(st.Reason, "call Updates") {
			t.Errorf("reason %q does not say what to do", st.Reason)
		}
	})
}

// One update from the first wait to the last, phase by phase.
func TestStatus_phases(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		answer, payload := make(chan struct{}), make(chan struct{})
		w.Fail(1, testserver.Fault{Hold: answer})
		w.Payloads.Fail("", 1, testserver.FileFault{Hold: payload})
		c := w.client(app(appA))
		is := func(phase omahaclient.Phase, target, reason string) omahaclient.AppStatus {
			t.Helper()
			synctest.Wait()
			st := status(t, c, appA)
			want(t, "phase", st.Phase, phase)
			want(t, "target while "+string(phase), st.Target, target)
			if !strings.Contains(st.Reason, reason) {
				t.Errorf("reason while %s: %q; want something of %q", phase, st.Reason, reason)
			}
			return st
		}
		s := w.updates(c)
		next := is(omahaclient.Idle, "", "the first check comes at 2000-01-01T00:").NextCheck
		time.Sleep(time.Until(next))
		is(omahaclient.Checking, "", "")
		want(t, "the check came when it was announced", w.checks(appA)[0].at, next)
		time.Sleep(5 * time.Second)
		close(answer)
		st := is(omahaclient.Fetching, "2.0.0", "")
		want(t, "last check", st.LastCheck, time.Now())
		close(payload)
		o := s.next()
		is(omahaclient.Offered, "2.0.0", "waits for the program's verdict since 2000-01-01")
		must(t, o.Ack(errors.New("it does not start")))
		is(omahaclient.Idle, "", "it does not start")
		o = s.next()
		must(t, o.Ack(errors.New("no")))
		is(omahaclient.BackingOff, "2.0.0", "failed 2 times")
		must(t, c.CheckNow(t.Context()))
		must(t, s.next().Installed())
		is(omahaclient.RestartPending, "2.0.0", "restart")
		s.stop()
		must(t, c.Close())
		c = w.client(appAt(appA, "2.0.0"))
		want(t, "version", is(omahaclient.Idle, "", "").Version, "2.0.0")
	})
}

func TestStatus_waitsForAStream(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		s.next()
		must(t, c.Close())
		c = w.client(app(appA))
		if reason := status(t, c, appA).Reason; !strings.Contains(reason, "call Updates") {
			t.Errorf("reason %q does not say what to do", reason)
		}
	})
}

// Why nothing happens now, in plain words, and when the next contact is.
func TestStatus_afterClose(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		w.updates(c).next()
		must(t, c.Close())
		if reason := status(t, c, appA).Reason; !strings.HasPrefix(reason, "the client is closed") {
			t.Errorf("reason %q", reason)
		}
	})
}

func TestStatus_reasonAndNextCheck(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy testserver.Policy
		opts   []omahaclient.Option
		spoil  func(*world)
		reason string
	}{
		{"updates disabled", testserver.Policy{Disabled: true}, nil, nil, "server: "},
		{"no update", testserver.Policy{}, nil, func(w *world) { w.Fail(-1, noUpdate()) }, "no update"},
		{"server down", testserver.Policy{}, nil, func(w *world) { w.Offline(true) }, "omaha request to http://omaha.test/v1/update/"},
		{"unknown app", testserver.Policy{}, nil, func(w *world) { w.Fail(-1, unknownApps()) }, appA},
		{"HTML page", testserver.Policy{}, nil, func(w *world) { w.Fail(-1, testserver.HTMLPage()) }, "text/html"},
		{
			"server-asked delay", testserver.Policy{Disabled: true}, nil,
			func(w *world) { w.Fail(-1, testserver.Extra("Retry-After", "9000")) }, "the server asked for no check before",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0").ChangePolicy(func(p *testserver.Policy) { *p = tc.policy })
				if tc.spoil != nil {
					tc.spoil(w)
				}
				c := w.client(append(tc.opts, app(appA))...)
				s := w.updates(c)
				s.silent(time.Hour)
				st := status(t, c, appA)
				want(t, "phase", st.Phase, omahaclient.Idle)
				if !strings.Contains(st.Reason, tc.reason) {
					t.Errorf("reason %q; want something of %q", st.Reason, tc.reason)
				}
				if st.NextCheck.Before(time.Now()) || st.NextCheck.After(time.Now().Add(150*time.Minute)) {
					t.Errorf("next check at %v; it is %v", st.NextCheck, time.Now())
				}
			})
		})
	}
}

// noUpdate takes the grant out of an answer.
func noUpdate() testserver.Fault {
	return testserver.Fault{Edit: func(apps []testserver.AppAnswer) []testserver.AppAnswer {
		for i := range apps {
			apps[i] = testserver.AppAnswer{ID: apps[i].ID, Status: "ok", Ping: apps[i].Ping, Check: "noupdate"}
		}
		return apps
	}}
}

// LastError is kept until a finished update or a plain "no update".
func TestStatus_lastError(t *testing.T) {
	for _, tc := range []struct {
		name string
		fail func(*world)
		end  func(*world, *testserver.Group, *stream)
		gone bool
	}{
		{
			"ends by a finished update", func(w *world) { w.Fail(1, testserver.HTMLPage()) },
			func(_ *world, _ *testserver.Group, s *stream) { must(s.w.t, s.next().Ack(nil)) }, true,
		},
		{
			"ends by no update", func(w *world) { w.Fail(1, testserver.HTMLPage()) },
			func(_ *world, g *testserver.Group, s *stream) {
				g.Publish(release(appA, "1.0.0"))
				s.silent(3 * time.Hour)
			}, true,
		},
		{
			"stays over a refusal by policy", func(w *world) { w.Fail(1, testserver.HTMLPage()) },
			func(_ *world, g *testserver.Group, s *stream) {
				g.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
				s.silent(5 * time.Hour)
			}, false,
		},
		{
			"stays while an offer is open", func(w *world) { w.Fail(1, testserver.HTMLPage()) },
			func(_ *world, _ *testserver.Group, s *stream) { s.next() }, false,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				g := w.offering(appA, "2.0.0")
				tc.fail(w)
				c := w.client(app(appA))
				s := w.updates(c)
				time.Sleep(16 * time.Minute)
				wantFailure(t, status(t, c, appA).LastError, "check", omaha.ExitResponseXML)
				tc.end(w, g, s)
				synctest.Wait()
				if err := status(t, c, appA).LastError; (err == nil) != tc.gone {
					t.Errorf("last error %v", err)
				}
			})
		})
	}
}

func TestStatus_pendingEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		o := s.next()
		synctest.Wait()
		want(t, "delivered so far", status(t, c, appA).PendingEvents, 0)
		w.Offline(true)
		must(t, o.Ack(nil))
		ctx, cancel := shortly()
		defer cancel()
		wantErr(t, c.SendEvent(ctx, appA, omaha.Event{Type: 2, Result: 1}), context.DeadlineExceeded)
		want(t, "waiting", status(t, c, appA).PendingEvents, 2)
		w.Offline(false)
		w.flush(c)
		want(t, "delivered", status(t, c, appA).PendingEvents, 0)
	})
}
