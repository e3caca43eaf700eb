package testserver_test

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// inMemory runs a test in a bubble with a server in memory; app A has 2.0.0.
func inMemory(t *testing.T, run func(t *testing.T, ts *testserver.Server, client *http.Client), opts ...testserver.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ts := testserver.New(opts...)
		ts.AddGroup(appA, "stable", testserver.AnyArch, testserver.Policy{}).
			Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "a.bin", Content: payload}}})
		ts.StartMemory()
		defer ts.Close()
		run(t, ts, ts.Client())
	})
}

// post sends app A's content and returns the answer's status, header and body.
func post(ctx context.Context, client *http.Client, url, content string) (*http.Response, string, error) {
	return postAs(ctx, client, url, app(appA, content))
}

func postAs(ctx context.Context, client *http.Client, url, app string) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(request("x64", app)))
	if err != nil {
		return nil, "", err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestFault_answers(t *testing.T) {
	tests := []struct {
		name      string
		fault     testserver.Fault
		status    int
		processed bool
		check     func(h http.Header, body string) bool
	}{
		{"status", testserver.StatusFault(503, "Retry-After", "120"), 503, false,
			func(h http.Header, body string) bool { return body == "" && h.Get("Retry-After") == "120" }},
		{"page", testserver.HTMLPage(), 200, false,
			func(h http.Header, body string) bool {
				return h.Get("Content-Type") == "text/html; charset=utf-8" && strings.Contains(body, "<html>")
			}},
		{"empty", testserver.EmptyBody(), 200, false, func(_ http.Header, body string) bool { return body == "" }},
		{"declaration", testserver.BareDeclaration(), 200, false,
			func(h http.Header, body string) bool {
				return body == declaration && h.Get("Content-Type") == "text/xml"
			}},
		{"truncated", testserver.Truncated(100), 200, true,
			func(_ http.Header, body string) bool { return len(body) == 100 && !parses(body) }},
		{"huge", testserver.Huge(2 << 20), 200, true,
			func(_ http.Header, body string) bool { return len(body) > 2<<20 && parses(body) }},
		{"extra", testserver.Extra("X-Retry-After", "7"), 200, true,
			func(h http.Header, body string) bool { return h.Get("X-Retry-After") == "7" && parses(body) }},
		{"no apps", testserver.DropApps(0), 200, true,
			func(_ http.Header, body string) bool { return parses(body) && !strings.Contains(body, "<app") }},
		{"no events", testserver.DropEvents(), 200, true,
			func(_ http.Header, body string) bool {
				return strings.Contains(body, "<manifest") && !strings.Contains(body, "<event")
			}},
		{"wrong app", testserver.WrongApp("io.example.Z"), 200, true,
			func(_ http.Header, body string) bool { return strings.Contains(body, `appid="io.example.Z"`) }},
		{"app error", testserver.AppError("error-restricted"), 200, true,
			func(_ http.Header, body string) bool {
				return strings.Contains(body, `status="error-restricted"`) && strings.Contains(body, `<updatecheck status="error-internal">`) && !strings.Contains(body, "<manifest")
			}},
		{"events refused", testserver.Fault{Edit: func(apps []testserver.AppAnswer) []testserver.AppAnswer {
			apps[0].EventStatus, apps[0].Status = "error", "error-restricted"
			return apps
		}}, 200, true,
			func(_ http.Header, body string) bool {
				return strings.Contains(body, `<event status="error">`) && strings.Contains(body, `status="error-restricted"`)
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
				ts.Fail(1, test.fault)
				resp, body, err := post(t.Context(), client, ts.URL(), both+event(3, 1))
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != test.status || !test.check(resp.Header, body) {
					t.Errorf("%d %v %.300q", resp.StatusCode, resp.Header, body)
				}
				if _, known := ts.Instance(appA, "m1"); known != test.processed {
					t.Errorf("processed: %v, want %v", known, test.processed)
				}
				log := ts.Requests()[0]
				if log.Unseen == test.processed || log.Status != test.status || string(log.Answer) != body {
					t.Errorf("logged %+v", log)
				}
				if _, body, err = post(t.Context(), client, ts.URL(), both); err != nil || !strings.Contains(body, `<manifest version="2.0.0"`) {
					t.Errorf("the next exchange: %q, %v", body, err)
				}
			})
		})
	}
}

func parses(body string) bool { return xml.Unmarshal([]byte(body), &answer{}) == nil }

func TestFault_resets(t *testing.T) {
	for name, test := range map[string]struct {
		fault     testserver.Fault
		processed bool
	}{"lost request": {testserver.LostRequest(), false}, "lost answer": {testserver.LostAnswer(), true}} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
				ts.Fail(1, test.fault)
				if _, _, err := post(t.Context(), client, ts.URL(), both); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%v, want a reset", err)
				}
				if _, known := ts.Instance(appA, "m1"); known != test.processed {
					t.Errorf("processed: %v, want %v", known, test.processed)
				}
				if log := ts.Requests()[0]; log.Status != 0 || log.Unseen == test.processed {
					t.Errorf("logged %+v", log)
				}
			})
		})
	}
}

func TestFault_resetsSockets(t *testing.T) {
	for name, start := range map[string]func(*testserver.Server) error{"plain": (*testserver.Server).Start, "TLS": (*testserver.Server).StartTLS} {
		t.Run(name, func(t *testing.T) {
			ts := testserver.New()
			if err := start(ts); err != nil {
				t.Fatal(err)
			}
			defer ts.Close()
			ts.Fail(1, testserver.LostAnswer())
			_, _, err := post(t.Context(), ts.Client(), ts.URL(), both)
			if err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%v, want a reset", err)
			}
			if _, _, err := post(t.Context(), ts.Client(), ts.URL(), both); err != nil {
				t.Errorf("the next exchange: %v", err)
			}
		})
	}
}

func TestFault_stallsUntilTheClientLeaves(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		ts.Fail(1, testserver.Fault{Stall: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begun := time.Now()
		if _, _, err := post(ctx, client, ts.URL(), both); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
		if got := time.Since(begun); got != time.Hour {
			t.Errorf("stalled for %v", got)
		}
		if _, known := ts.Instance(appA, "m1"); !known {
			t.Error("the stalled request was not processed")
		}
	})
}

func TestFault_delaysAndHolds(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		hold := make(chan struct{})
		ts.Fail(1, testserver.Fault{Delay: time.Minute, Hold: hold})
		time.AfterFunc(time.Hour, func() { close(hold) })
		begun := time.Now()
		if _, body, err := post(t.Context(), client, ts.URL(), both); err != nil || !parses(body) {
			t.Errorf("%q, %v", body, err)
		}
		if got := time.Since(begun); got != time.Hour {
			t.Errorf("answered after %v", got)
		}
	})
}

func TestFault_queueThenFuncThenHeal(t *testing.T) {
	b := newBench(t)
	status := func() int { return b.post("/v1/update/", request("x64", app(appA, ping))).Code }
	b.Fail(2, testserver.StatusFault(500))
	b.Fail(1, testserver.StatusFault(502))
	b.Fail(0, testserver.StatusFault(504))
	b.FailFunc(func(r testserver.Request) testserver.Fault {
		if len(r.Apps) == 1 && r.Apps[0].ID == appA {
			return testserver.StatusFault(503)
		}
		return testserver.Fault{}
	})
	for k, want := range []int{500, 500, 502, 503, 503} {
		if got := status(); got != want {
			t.Errorf("exchange %d: %d, want %d", k, got, want)
		}
	}
	if got := b.post("/v1/update/", request("x64")).Code; got != 200 {
		t.Errorf("%d for a request that the function leaves alone", got)
	}
	b.Fail(-1, testserver.StatusFault(500))
	for range 5 {
		if got := status(); got != 500 {
			t.Errorf("%d, want 500 for ever", got)
		}
	}
	b.Heal()
	if got := status(); got != 200 {
		t.Errorf("%d after Heal", got)
	}
}
