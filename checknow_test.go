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

func TestCheckNow_findsForTheOpenStream(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "2.0.0")
		w.offering(appC, "2.0.0")
		c := w.client(app(appA), app(appB), app(appC))
		s := w.updates(c)
		synctest.Wait()
		start := time.Now() // long before the first scheduled check
		must(t, c.CheckNow(t.Context(), appB, strings.ToUpper(appB)))
		o := s.next()
		want(t, "app", o.AppID, appB)
		must(t, o.Ack(nil))
		must(t, c.CheckNow(t.Context())) // all
		if a, b := s.next(), s.next(); a.AppID == b.AppID || a.AppID == appB || b.AppID == appB {
			t.Errorf("offers for %s and %s", a.AppID, b.AppID)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v", took)
		}
		want(t, "checks of B", len(w.checks(appB)), 2)
		want(t, "requests for all", w.checks(appA)[0].request, w.checks(appC)[0].request)
		want(t, "install source", w.checks(appB)[0].source, "ondemand")
	})
}

// The stream is open when Updates returns: what is asked for next finds it, and Err speaks of it.
func TestCheckNow_findsForAStreamJustOpened(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		w.updates(c).stop()
		wantErr(t, c.Err(), errDone)
		s := w.updates(c)
		must(t, c.Err()) // no longer the one before
		must(t, c.CheckNow(t.Context()))
		want(t, "grants", w.Grants(appA), 1)
		want(t, "offered", s.next().Version, "2.0.0")
	})
}

// A stream that is ending takes nothing any more: nothing is asked for it, and what comes too late is given back.
func TestCheckNow_whileTheStreamEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		g := w.group(appB)
		started, leave := make(chan struct{}), make(chan struct{})
		slow := fetchFunc(func(ctx context.Context, _ fetcher.Job) (fetcher.Payload, error) {
			close(started)
			<-leave
			return fetcher.Payload{}, ctx.Err()
		})
		c := w.client(app(appA), app(appB), omahaclient.WithFetcher("binary", slow))
		s := w.updates(c)
		<-started
		s.end(errDone)
		synctest.Wait() // its loop is over, its fetch is not
		g.Publish(release(appB, "2.0.0"))
		must(t, c.CheckNow(t.Context(), appB))
		want(t, "grants of B", w.Grants(appB), 0)
		close(leave)
		wantErr(t, s.closed(), errDone)
	})
}

func TestCheckNow_answeredAfterTheStream(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		synctest.Wait()
		w.Fail(1, testserver.Fault{Delay: 10 * time.Second})
		checked := make(chan error, 1)
		go func() { checked <- c.CheckNow(t.Context()) }()
		time.Sleep(time.Second)
		s.stop()
		must(t, <-checked)
		want(t, "history", w.history(appA), "granted, error 36") // nobody holds it
		want(t, "offered to the next", w.updates(c).next().Version, "2.0.0")
	})
}

func TestCheckNow_returnsWhenTheAnswersAreIn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.Payloads.Fail("", -1, testserver.FileFault{Stall: true}) // the download is not waited for
		w.Fail(1, testserver.Fault{Delay: 10 * time.Second})
		c := w.client(app(appA))
		w.updates(c)
		synctest.Wait()
		start := time.Now()
		must(t, c.CheckNow(t.Context()))
		want(t, "time", time.Since(start), 10*time.Second)
		want(t, "granted", w.Grants(appA), 1)
	})
}

func TestCheckNow_joinsTheErrorsOfChecksThatFailed(t *testing.T) {
	const unknown = "io.example.Unknown"
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "2.0.0").ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
		c := w.client(app(unknown), app(appA), app(appB), omahaclient.WithApp(appC, "1.0.0"))
		s := w.updates(c)
		synctest.Wait()
		err := c.CheckNow(t.Context())
		failures := failuresIn(err)
		want(t, "failures", len(failures), 2)
		wantFailure(t, failures[unknown], "check", omaha.ExitOmahaRequest)
		wantFailure(t, failures[appC], "check", omaha.ExitOmahaRequest)
		for _, word := range []string{unknown, track, "channel", "architecture"} { // what may be wrong
			if !strings.Contains(failures[unknown].Error(), word) {
				t.Errorf("%q does not name %s", failures[unknown], word)
			}
		}
		want(t, "the others", s.next().AppID, appA)
		if reason := status(t, c, appB).Reason; !strings.Contains(reason, "updates disabled") {
			t.Errorf("reason %q", reason)
		}

		synctest.Wait() // A's reports are delivered
		w.Fail(1, testserver.StatusFault(http.StatusForbidden))
		err = c.CheckNow(t.Context(), appB, appC)
		failures = failuresIn(err)
		want(t, "failures of a whole request", len(failures), 2)
		wantFailure(t, failures[appB], "check", omaha.ExitHTTPBase+403)
		var answer *omaha.AnswerError
		if !errors.As(err, &answer) || answer.StatusCode != http.StatusForbidden {
			t.Errorf("%v is no AnswerError", err)
		}
	})
}

func TestCheckNow_leavesAnUpdateUnderWayAlone(t *testing.T) {
	for _, tc := range []struct {
		name  string
		phase omahaclient.Phase
		act   func(*testing.T, *world, *stream)
	}{
		{"fetching", omahaclient.Fetching, func(_ *testing.T, w *world, _ *stream) {
			w.Payloads.Fail("", -1, testserver.FileFault{Stall: true})
			w.reaches(appA, testserver.Downloading)
		}},
		{"offered", omahaclient.Offered, func(_ *testing.T, _ *world, s *stream) { s.next() }},
		{"waiting for a restart", omahaclient.RestartPending, func(t *testing.T, _ *world, s *stream) { must(t, s.next().Installed()) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				c := w.client(app(appA))
				s := w.updates(c)
				tc.act(t, w, s)
				synctest.Wait()
				must(t, c.CheckNow(t.Context(), appA))
				want(t, "checks", len(w.checks(appA)), 1)
				want(t, "phase", status(t, c, appA).Phase, tc.phase)
			})
		})
	}
}

func TestCheckNow_withoutAStreamPingsOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		must(t, c.CheckNow(t.Context()))
		want(t, "contacts", len(w.contacts(appA)), 1)
		want(t, "ping", w.contacts(appA)[0].Ping, true)
		want(t, "checks", len(w.checks(appA)), 0)
		want(t, "grants", w.Grants(appA), 0)
		want(t, "known to the server", w.instance(appA).Version, "1.0.0")
	})
}

// A ping is enough to prove endpoint, ids, channels and credentials.
func TestCheckNow_withoutAStreamProvesTheSetup(t *testing.T) {
	allow := testserver.WithAuthorize(func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer good" })
	bearer := func(token string) omahaclient.Option {
		return omahaclient.WithAuthorization(func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+token)
			return nil
		})
	}
	for _, tc := range []struct {
		name     string
		endpoint string
		opts     []omahaclient.Option
		code     omaha.ExitCode // 0: all is well
	}{
		{"right", "http://omaha.test/v1/update/", []omahaclient.Option{app(appA), bearer("good")}, 0},
		{"right, without a path", "http://omaha.test", []omahaclient.Option{app(appA), bearer("good")}, 0},
		{"wrong path", "http://omaha.test/update/", []omahaclient.Option{app(appA), bearer("good")}, omaha.ExitResponseXML},
		{"no server", "http://refused.test/v1/update/", []omahaclient.Option{app(appA), bearer("good")}, omaha.ExitOmahaRequest},
		{"wrong id", "http://omaha.test/v1/update/", []omahaclient.Option{app("io.example.Typo"), bearer("good")}, omaha.ExitOmahaRequest},
		{
			"wrong channel", "http://omaha.test/v1/update/",
			[]omahaclient.Option{omahaclient.WithApp(appA, "1.0.0", omahaclient.WithChannel("Stable")), bearer("good")}, omaha.ExitOmahaRequest,
		},
		{"wrong credentials", "http://omaha.test/v1/update/", []omahaclient.Option{app(appA), bearer("bad")}, omaha.ExitHTTPBase + 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				c, err := omahaclient.New(tc.endpoint, w.options(tc.opts...)...)
				must(t, err)
				defer c.Close()
				err = c.CheckNow(t.Context())
				if tc.code == 0 {
					must(t, err)
					return
				}
				wantFailure(t, err, "check", tc.code)
			}, allow)
		})
	}
}

func TestCheckNow_unknownApp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		w.updates(c)
		err := c.CheckNow(t.Context(), appA, "io.example.X", "io.example.Y")
		wantErr(t, err, omahaclient.ErrUnknownApp)
		for _, id := range []string{"io.example.X", "io.example.Y"} {
			if !strings.Contains(err.Error(), id) {
				t.Errorf("%q does not name %s", err, id)
			}
		}
		want(t, "requests", len(w.Requests()), 0)
	})
}

func TestCheckNow_endsWithCtxAndClose(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.Fail(-1, testserver.Fault{Stall: true})
		c := w.client(app(appA))
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errDone) })
		wantErr(t, c.CheckNow(ctx), errDone)

		result := make(chan error)
		for range 2 { // one is sent, one waits for its turn
			go func() { result <- c.CheckNow(context.Background()) }()
		}
		synctest.Wait()
		must(t, c.Close())
		wantErr(t, <-result, omahaclient.ErrClosed)
		wantErr(t, <-result, omahaclient.ErrClosed)
		wantErr(t, c.CheckNow(t.Context()), omahaclient.ErrClosed)
	})
}

// Calls at the same time wait for each other, app by app: none of them misses the answer.
func TestCheckNow_manyAtOnce(t *testing.T) {
	w := onSockets(t)
	w.offering(appA, "2.0.0")
	w.offering(appB, "1.0.0")
	c := w.client(app(appA), app(appB))
	s := w.updates(c)
	results := make(chan error)
	for range 8 {
		go func() { results <- c.CheckNow(t.Context(), appA) }()
		go func() { results <- c.CheckNow(t.Context(), appB, appA) }()
	}
	for range 16 {
		must(t, <-results)
	}
	must(t, s.next().Ack(nil))
	w.reaches(appA, testserver.Complete)
	want(t, "grants", w.Grants(appA), 1)
}

// An app whose contact hangs does not keep CheckNow from the others: these are asked about at once, and it when it is free.
func TestCheckNow_asksAboutFreeAppsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		w.offering(appB, "1.0.0")
		hold := make(chan struct{})
		w.FailFunc(func(r testserver.Request) testserver.Fault {
			if len(r.Apps) == 1 && r.Apps[0].ID == appB {
				return testserver.Fault{Hold: hold}
			}
			return testserver.Fault{}
		})
		c := w.client(app(appA), app(appB))
		w.updates(c)
		synctest.Wait()
		hanging, all := make(chan error, 1), make(chan error, 1)
		go func() { hanging <- c.CheckNow(t.Context(), appB) }()
		synctest.Wait()
		go func() { all <- c.CheckNow(t.Context()) }()
		synctest.Wait()
		want(t, "checks of A while B hangs", len(w.checks(appA)), 1)
		close(hold)
		must(t, <-hanging)
		must(t, <-all)
		want(t, "checks of A", len(w.checks(appA)), 1)
		want(t, "checks of B", len(w.checks(appB)), 2)
	})
}
