package omaha_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/kinvolk/go-omaha/omaha"

	"github.com/nebraska/omahaclient/omaha"
)

// attempt is what a scripted server does with one attempt: an error, or an answer.
type attempt struct {
	status int // 0: err
	header map[string]string
	body   string
	err    error
}

var success = attempt{status: 200, header: xmlType(), body: noUpdate}

// scripted returns a client of a server that does this with one attempt after another, the last for ever, and
// where the times of the attempts, since the first, are kept. Use it in a synctest bubble.
func scripted(t *testing.T, script ...attempt) (*omaha.Client, *[]time.Duration) {
	var first time.Time
	var times []time.Duration
	ids := map[string]bool{}
	c := &omaha.Client{Endpoint: endpoint, HTTP: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		if len(times) == 0 {
			first = time.Now()
		}
		doc, err := wire.ParseRequest("", r.Body)
		if err != nil || ids[doc.RequestID] || doc.SessionID != "s1" {
			t.Errorf("attempt %d: request id again, or another session: %+v, %v", len(times), doc, err)
		} else {
			ids[doc.RequestID] = true
		}
		a := script[min(len(times), len(script)-1)]
		times = append(times, time.Since(first))
		if a.status == 0 {
			return nil, a.err
		}
		resp := response(r, a.status, a.header, a.body)
		if a.err != nil {
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(a.body), failing{a.err}))
		}
		return resp, nil
	})}}
	return c, &times
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestClient_retries(t *testing.T) {
	reset := errors.New("connection reset by peer")
	status := func(n int) attempt { return attempt{status: n, body: "no"} }
	for _, tt := range []struct {
		name     string
		script   []attempt
		max      int
		attempts int
		ok       bool
	}{
		{"none needed", []attempt{success}, 0, 1, true},
		{"408", []attempt{status(408), success}, 0, 2, true},
		{"429", []attempt{status(429), success}, 0, 2, true},
		{"500", []attempt{status(500), success}, 0, 2, true},
		{"502", []attempt{status(502), success}, 0, 2, true},
		{"503", []attempt{status(503), success}, 0, 2, true},
		{"504", []attempt{status(504), success}, 0, 2, true},
		{"network error", []attempt{{err: reset}, success}, 0, 2, true},
		{"broken off", []attempt{{status: 200, header: xmlType(), body: noUpdate[:60], err: io.ErrUnexpectedEOF}, success}, 0, 2, true},
		{"reset in the body", []attempt{{status: 200, header: xmlType(), body: noUpdate[:60], err: reset}, success}, 0, 2, true},
		{"one of each", []attempt{status(500), {err: reset}, status(429), status(503), success}, 0, 5, true},
		{"four by default", []attempt{status(500)}, 0, 5, false},
		{"as often as asked", []attempt{{err: reset}}, 2, 3, false},
		{"not at all", []attempt{status(503), success}, -1, 1, false},
		{"not 400", []attempt{status(400), success}, 0, 1, false},
		{"not 401", []attempt{status(401), success}, 0, 1, false},
		{"not 404", []attempt{status(404), success}, 0, 1, false},
		{"not 501", []attempt{status(501), success}, 0, 1, false},
		{"not 505", []attempt{status(505), success}, 0, 1, false},
		{"not a web page", []attempt{{status: 200, header: map[string]string{"Content-Type": "text/html"}, body: "<html>"}, success}, 0, 1, false},
		{"not too large", []attempt{{status: 200, header: xmlType(), body: strings.Repeat(" ", 2<<20)}, success}, 0, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, times := scripted(t, tt.script...)
				c.RetryMax = tt.max
				resp, err := c.Do(context.Background(), checkFor("a"))
				if len(*times) != tt.attempts || (err == nil) != tt.ok {
					t.Fatalf("%d attempts, want %d: %v", len(*times), tt.attempts, err)
				}
				if tt.ok && !resp.Apps[0].NoUpdate {
					t.Errorf("got %+v", resp)
				}
			})
		})
	}
}

func TestClient_lastAttemptDecides(t *testing.T) {
	reset := errors.New("connection reset by peer")
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, attempt{status: 200, header: xmlType(), body: "<resp", err: reset}, attempt{err: reset})
		_, err := c.Do(context.Background(), checkFor("a"))
		answer := asAnswer(t, err)
		if answer.StatusCode != 0 || answer.Body != "" || answer.Code != omaha.ExitOmahaRequest || answer.Final() || !errors.Is(err, reset) {
			t.Errorf("an earlier attempt shows in %+v", answer)
		}
	})
}

func TestClient_brokenOffForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, attempt{status: 200, header: xmlType(), body: "<resp", err: io.ErrUnexpectedEOF})
		_, err := c.Do(context.Background(), checkFor("a"))
		if answer := asAnswer(t, err); answer.Final() || answer.Code != omaha.ExitOmahaRequest {
			t.Errorf("got %+v", answer)
		}
		saysAll(t, err, "broke off after 5 bytes")
		saysNone(t, err, "EOF")
	})
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, attempt{err: io.EOF})
		_, err := c.Do(context.Background(), checkFor("a"))
		saysAll(t, err, "closed the connection")
		saysNone(t, err, "EOF")
	})
}

func TestClient_waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, times := scripted(t, attempt{status: 503})
		c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = 6, time.Second, 8*time.Second
		if _, err := c.Do(context.Background(), checkFor("a")); err == nil {
			t.Fatal("no error")
		}
		for i, seconds := range []int{1, 2, 4, 8, 8, 8} {
			longest := time.Duration(seconds) * time.Second
			if wait := (*times)[i+1] - (*times)[i]; wait < longest/2 || wait > longest {
				t.Errorf("wait %d is %v, want %v to %v", i, wait, longest/2, longest)
			}
		}
	})
}

func TestClient_waitsAtRandom(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			c, times := scripted(t, attempt{status: 503}, success)
			if _, err := c.Do(context.Background(), checkFor("a")); err != nil {
				t.Fatal(err)
			}
			seen[(*times)[1]] = true
		})
	}
	if len(seen) < 2 {
		t.Errorf("five clients wait the same: %v", seen)
	}
}

func TestClient_retryAfter(t *testing.T) {
	for _, tt := range []struct {
		name     string
		header   map[string]string // "@1h" is the date in an hour
		shortest time.Duration     // of the wait before the second attempt; 0: there is none
		delay    time.Duration     // that the error reports
	}{
		{"short", map[string]string{"Retry-After": "20"}, 20 * time.Second, 0},
		{"as long as allowed", map[string]string{"Retry-After": "30"}, 30 * time.Second, 0},
		{"longer", map[string]string{"Retry-After": "31"}, 0, 31 * time.Second},
		{"date", map[string]string{"Retry-After": "@25s"}, 25 * time.Second, 0},
		{"date by the server's clock", map[string]string{"Retry-After": "@1h5s", "Date": "@1h"}, 5 * time.Second, 0},
		{"far date", map[string]string{"Retry-After": "@2h"}, 0, 2 * time.Hour},
		{"endless", map[string]string{"Retry-After": "99999999999999999999"}, 0, 24 * time.Hour},
		{"Omaha's own", map[string]string{"X-Retry-After": "3600"}, 0, time.Hour},
		{"the longer of both", map[string]string{"X-Retry-After": "40", "Retry-After": "50"}, 0, 50 * time.Second},
		{"zero", map[string]string{"Retry-After": "0"}, time.Second / 2, 0},
		{"negative", map[string]string{"Retry-After": "-5"}, time.Second / 2, 0},
		{"endlessly negative", map[string]string{"Retry-After": "-99999999999999999999"}, time.Second / 2, 0},
		{"past date", map[string]string{"Retry-After": "@-1h"}, time.Second / 2, 0},
		{"junk", map[string]string{"Retry-After": "soon"}, time.Second / 2, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for name, value := range tt.header {
					if offset, ok := strings.CutPrefix(value, "@"); ok {
						in, err := time.ParseDuration(offset)
						if err != nil {
							t.Fatal(err)
						}
						tt.header[name] = time.Now().Add(in).UTC().Format(http.TimeFormat)
					}
				}
				c, times := scripted(t, attempt{status: 503, header: tt.header}, success)
				_, err := c.Do(context.Background(), checkFor("a"))
				if tt.shortest > 0 {
					if err != nil || len(*times) != 2 || (*times)[1] < tt.shortest || (*times)[1] > max(tt.shortest, time.Second) {
						t.Errorf("attempts at %v: %v", *times, err)
					}
					return
				}
				answer := asAnswer(t, err)
				if len(*times) != 1 || answer.RetryAfter != tt.delay || answer.Final() {
					t.Errorf("attempts at %v, retry after %v: %v", *times, answer.RetryAfter, err)
				}
			})
		})
	}
}

func TestResponse_RetryAfter(t *testing.T) {
	for _, tt := range []struct {
		name, scheme, header, value string
		want                        time.Duration
	}{
		{"seconds", "http", "Retry-After", "120", 2 * time.Minute},
		{"Omaha's own over https", "https", "X-Retry-After", "120", 2 * time.Minute},
		{"Omaha's own over http is not trusted", "http", "X-Retry-After", "120", 0},
		{"clamped", "https", "X-Retry-After", "864000", 24 * time.Hour},
		{"zero", "https", "X-Retry-After", "0", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := answering(200, map[string]string{"Content-Type": "text/xml", tt.header: tt.value}, noUpdate)
			c.Endpoint = tt.scheme + "://updates.example.com/"
			resp, err := c.Do(context.Background(), checkFor("a"))
			if err != nil || resp.RetryAfter != tt.want {
				t.Errorf("got %+v, %v", resp, err)
			}
		})
	}
}

func TestClient_contextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, times := scripted(t, attempt{status: 503, header: map[string]string{"Retry-After": "30"}})
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Do(ctx, checkFor("a"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Second || len(*times) != 1 {
			t.Errorf("after %v and %d attempts: %v", time.Since(start), len(*times), err)
		}
		var answer *omaha.AnswerError
		if errors.As(err, &answer) {
			t.Error("the caller's own deadline is no AnswerError")
		}
	})
}

// A call that ends while it waits for another attempt says why it had to wait.
func TestClient_contextEndsTheWait_reason(t *testing.T) {
	reset := errors.New("connection reset by peer")
	cause := errors.New("shutting down")
	for _, tt := range []struct {
		name   string
		script []attempt
		says   string
	}{
		{"status", []attempt{{status: 503}}, "HTTP 503: service unavailable"},
		{"network", []attempt{{err: reset}}, "connection reset by peer"},
		{"the last one", []attempt{{status: 503}, {err: reset}}, "connection reset by peer"},
		{"no route", []attempt{{err: &net.OpError{Op: "dial", Err: reset}}}, "dial: connection reset by peer; is the server up"},
		{"none", []attempt{{err: context.DeadlineExceeded}}, "no complete answer in time"},
	} {
		for _, ended := range []error{context.DeadlineExceeded, context.Canceled} {
			t.Run(fmt.Sprint(tt.name, " and ", ended), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, times := scripted(t, tt.script...)
					c.RetryWaitMin, c.RetryWaitMax = 10*time.Second, 10*time.Second
					ctx, cancel := context.WithTimeout(context.Background(), 12*time.Second)
					defer cancel()
					if ended == context.Canceled { //nolint:errorlint // a row of the table
						var stop context.CancelCauseFunc
						ctx, stop = context.WithCancelCause(context.Background())
						defer time.AfterFunc(12*time.Second, func() { stop(cause) }).Stop()
					}
					_, err := c.Do(ctx, checkFor("a"))
					if len(*times) < 2 || !errors.Is(err, ended) || ended == context.Canceled && !errors.Is(err, cause) { //nolint:errorlint // as above
						t.Errorf("%d attempts: %v", len(*times), err)
					}
					if strings.Contains(tt.says, "reset") != errors.Is(err, reset) || ended == context.Canceled && errors.Is(err, context.DeadlineExceeded) { //nolint:errorlint // as above
						t.Errorf("wrong causes in %v", err)
					}
					if errors.As(err, new(*omaha.AnswerError)) {
						t.Error("the caller's own end is no AnswerError")
					}
					saysAll(t, err, ended.Error(), "; the attempt before failed: "+tt.says)
				})
			})
		}
	}
}

func TestClient_contextCause(t *testing.T) {
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	_, err := answering(200, xmlType(), noUpdate).Do(ctx, checkFor("a"))
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// An attempt that takes too long is no end of the caller's context.
func TestClient_attemptTimeout(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timeout time.Duration // of the caller's client
		want    time.Duration // of an attempt
	}{
		{"default", 0, 60 * time.Second},
		{"the caller's", 5 * time.Second, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &omaha.Client{Endpoint: endpoint, RetryMax: -1, HTTP: &http.Client{
					Timeout: tt.timeout,
					Transport: transport(func(r *http.Request) (*http.Response, error) {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}),
				}}
				start := time.Now()
				_, err := c.Do(context.Background(), checkFor("a"))
				if answer := asAnswer(t, err); answer.Final() || time.Since(start) != tt.want {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
					t.Error("looks like the caller's context:", err)
				}
				saysAll(t, err, "in time")
			})
		})
	}
}

// A server that sends a byte now and then must not hold a call for ever.
func TestClient_trickle(t *testing.T) {
	for _, status := range []int{200, 503} {
		synctest.Test(t, func(t *testing.T) {
			c := &omaha.Client{Endpoint: endpoint, RetryMax: 1, HTTP: &http.Client{
				Transport: transport(func(r *http.Request) (*http.Response, error) {
					resp := response(r, status, xmlType(), "")
					resp.ContentLength, resp.Body = -1, io.NopCloser(trickle{r.Context()})
					return resp, nil
				}),
			}}
			start := time.Now()
			_, err := c.Do(context.Background(), checkFor("a"))
			if took := time.Since(start); err == nil || took > 2*time.Minute+time.Second {
				t.Errorf("status %d: after %v: %v", status, took, err)
			}
		})
	}
}

// trickle is a body of one byte a second without end; like net/http's, it ends with the request's context.
type trickle struct{ ctx context.Context }

func (b trickle) Read(p []byte) (int, error) {
	select {
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	}
}
