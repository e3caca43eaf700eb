package omahaclient_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

func TestUpdatesOnce_checksEveryAppAtOnceAndCloses(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "2.0.0")
		w.offering(appC, "1.0.0")
		c := w.client(app(appA), app(appB), app(appC))
		start := time.Now()
		s := w.once(c)
		for range 2 {
			must(t, c.Err()) // open
			must(t, s.next().Ack(nil))
		}
		must(t, s.closed())
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, id := range []string{appA, appB} {
			want(t, "history", w.history(id), "granted, downloading, downloaded, complete")
			want(t, "reports left", status(t, c, id).PendingEvents, 0)
		}
		want(t, "checks of A", len(w.checks(appA)), 1)
		want(t, "checks of C", len(w.checks(appC)), 1)
	})
}

func TestUpdatesOnce_waitsForVerdictAndReports(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		s := w.once(w.client(app(appA)))
		o := s.next()
		s.silent(30 * time.Hour) // its offer is not settled
		w.Offline(true)
		must(t, o.Ack(nil))
		s.silent(3 * time.Hour) // its report is not delivered
		w.Offline(false)
		must(t, s.closed())
		want(t, "status", w.instance(appA).Status, testserver.Complete)
	})
}

func TestUpdatesOnce_leavesAckErrorsToTheCaller(t *testing.T) {
	for _, tc := range []struct {
		name    string
		verdict func(omahaclient.UpdateOffer) error
		history string
	}{
		{"a failure", func(o omahaclient.UpdateOffer) error { return o.Ack(errors.New("disk on fire")) }, "error 1"},
		{"a deferral", func(o omahaclient.UpdateOffer) error { return o.Defer(time.Hour) }, "error 36"},
		{"an installation", omahaclient.UpdateOffer.Installed, "installed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				s := w.once(w.client(app(appA)))
				must(t, tc.verdict(s.next()))
				must(t, s.closed())
				want(t, "history", w.history(appA), "granted, downloading, downloaded, "+tc.history)
			})
		})
	}
}

func TestUpdatesOnce_policyRefusalIsNoFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0").ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
		c := w.client(app(appA))
		must(t, w.once(c).closed())
		want(t, "checks", len(w.checks(appA)), 1)
	})
}

func TestUpdatesOnce_joinsFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.Payloads.Remove(fileOf(appA, "2.0.0"))
		w.offering(appB, "2.0.0")
		c := w.client(app(appA), app(appB), app("io.example.Unknown"))
		s := w.once(c)
		must(t, s.next().Ack(nil)) // B's
		err := s.closed()
		failures := failuresIn(err)
		if len(failures) != 2 {
			t.Fatalf("Err = %v; want two failures", err)
		}
		wantFailure(t, failures[appA], "fetch", omaha.ExitTransfer)
		wantFailure(t, failures["io.example.Unknown"], "check", omaha.ExitOmahaRequest)
		var status *omaha.StatusError
		if !errors.As(failures["io.example.Unknown"], &status) {
			t.Errorf("%v is no StatusError", failures["io.example.Unknown"])
		}
		want(t, "A's history", w.history(appA), "granted, downloading, error 9") // and reported
	})
}

// Reports that the server refuses for good end the round, as its failure; they stay for the next one.
func TestUpdatesOnce_joinsRefusedReports(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		s := w.once(w.client(app(appA)))
		o := s.next()
		synctest.Wait() // all is reported so far
		w.FailFunc(func(testserver.Request) testserver.Fault { return unknownApps() })
		must(t, o.Ack(nil))
		err := s.closed()
		wantFailure(t, err, "report", omaha.ExitOmahaRequest)
		want(t, "reports left", status(t, s.c, appA).PendingEvents, 1)
		w.Heal()
		must(t, w.once(s.c).closed())
		want(t, "status", w.instance(appA).Status, testserver.Complete)
	})
}

func TestUpdatesOnce_outageWaitsForCtx(t *testing.T) {
	for _, tc := range []struct {
		name   string
		spoil  func(*world)
		reason string
	}{
		{"server down", func(w *world) { w.Offline(true) }, "connection refused"},
		{"503", func(w *world) { w.Fail(-1, testserver.StatusFault(http.StatusServiceUnavailable)) }, "503"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				tc.spoil(w)
				s := w.once(w.client(app(appA)))
				s.silent(5 * time.Hour)
				s.end(errDone)
				err := s.closed()
				wantErr(t, err, errDone)
				if !strings.Contains(err.Error(), tc.reason) {
					t.Errorf("%v; want it to say what the round was waiting for: %s", err, tc.reason)
				}
			})
			inBubble(t, func(t *testing.T, w *world) { // also where ctx ends before the first contact is given up
				w.offering(appA, "2.0.0")
				tc.spoil(w)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				c := w.client(app(appA))
				for range c.UpdatesOnce(ctx) {
					t.Error("an offer")
				}
				err := c.Err()
				wantErr(t, err, context.DeadlineExceeded)
				if !strings.Contains(err.Error(), tc.reason) {
					t.Errorf("%v; want it to say what the round was waiting for: %s", err, tc.reason)
				}
			})
			inBubble(t, func(t *testing.T, w *world) { // and goes on where it ends before
				w.offering(appA, "2.0.0")
				tc.spoil(w)
				s := w.once(w.client(app(appA)))
				s.silent(5 * time.Hour)
				w.Heal()
				w.Offline(false)
				must(t, s.next().Ack(nil))
				must(t, s.closed())
			})
		})
	}
}

// A server that answers, though not as an Omaha server, is no outage: no waiting helps.
func TestUpdatesOnce_wrongServerIsAFailure(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault testserver.Fault
		code  omaha.ExitCode
	}{
		{"HTML page", testserver.HTMLPage(), omaha.ExitResponseXML},
		{"404", testserver.StatusFault(http.StatusNotFound), omaha.ExitHTTPBase + 404},
		{"bare declaration", testserver.BareDeclaration(), omaha.ExitEmptyResponse},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				w.Fail(-1, tc.fault)
				wantFailure(t, w.once(w.client(app(appA))).closed(), "check", tc.code)
			})
		})
	}
}

func TestUpdatesOnce_respectsWhatHoldsChecksBack(t *testing.T) {
	closed := func(string, time.Time) (bool, time.Time) { return false, time.Time{} }
	for _, tc := range []struct {
		name    string
		opts    []omahaclient.Option
		before  func(*world)
		verdict func(omahaclient.UpdateOffer) error // of a round before; nil: none
		rounds  int
	}{
		{"gate", []omahaclient.Option{omahaclient.WithGate(closed)}, nil, nil, 0},
		{"deferral", nil, nil, func(o omahaclient.UpdateOffer) error { return o.Defer(10 * time.Hour) }, 1},
		{"backoff", nil, nil, func(o omahaclient.UpdateOffer) error { return o.Ack(errors.New("broken")) }, 2},
		{"server-asked delay", nil, func(w *world) {
			w.Fail(1, testserver.Extra("Retry-After", "36000"))
		}, func(o omahaclient.UpdateOffer) error { return o.Ack(nil) }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				g := w.offering(appA, "2.0.0")
				if tc.before != nil {
					tc.before(w)
				}
				for range tc.rounds { // each is a process of its own
					c := w.client(append(tc.opts, omahaclient.WithApp(appA, "", omahaclient.WithChannel(track)))...)
					s := w.once(c)
					must(t, tc.verdict(s.next()))
					must(t, s.closed())
					must(t, c.Close())
				}
				g.Publish(release(appA, "3.0.0"))
				checks := len(w.checks(appA))
				start := time.Now()
				c := w.client(append(tc.opts, omahaclient.WithApp(appA, "", omahaclient.WithChannel(track)))...)
				must(t, w.once(c).closed())
				if took := time.Since(start); took > time.Minute {
					t.Errorf("it waited %v", took)
				}
				want(t, "checks", len(w.checks(appA)), checks)
			})
		})
	}
}

func TestUpdatesOnce_givesUpNothingThatIsOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.once(c)
		s.next()
		s.stop()
		wantErr(t, c.Err(), errDone)
		s = w.once(c) // takes it up again
		o := s.next()
		want(t, "attempt", o.Attempt, 2)
		must(t, o.Ack(nil))
		must(t, s.closed())
		synctest.Wait()
		want(t, "downloads", w.Payloads.Stats("").Requests, 1)
	})
}

// A failed fetch in a round is not repeated in it.
func TestUpdatesOnce_triesOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.Payloads.Fail(fileOf(appA, "2.0.0"), -1, testserver.FileFault{Corrupt: true})
		c := w.client(app(appA))
		err := w.once(c).closed()
		wantFailure(t, err, "verify", omaha.ExitHash)
		wantErr(t, err, fetcher.ErrDigest)
		want(t, "checks", len(w.checks(appA)), 1)
	})
}
