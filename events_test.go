package omahaclient_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// What the server comes to know by itself.

func TestEvents_serverRecord(t *testing.T) {
	w := onSockets(t)
	w.offering(appA, "2.0.0")
	s := w.updates(w.client(app(appA), quick()))
	o := s.next()
	wantFile(t, o.Payloads[0].Path, content(appA, "2.0.0"))
	w.reaches(appA, testserver.Downloaded)
	must(t, o.Ack(nil))
	i := w.reaches(appA, testserver.Complete)
	want(t, "history", w.history(appA), "granted, downloading, downloaded, complete")
	want(t, "version", i.Version, "2.0.0")
	want(t, "in progress", i.InProgress, false)
}

// The events say from what to what, and belong to the session of the check.
func TestEvents_tellVersionsAndSession(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		s := w.updates(w.client(app(appA)))
		must(t, s.next().Ack(nil))
		synctest.Wait()
		contacts := w.contacts(appA)
		n := 0
		for _, c := range contacts {
			want(t, "session", c.session, contacts[0].session)
			for _, e := range c.Events {
				n++
				want(t, "previous version", e.PreviousVersion, "1.0.0")
				want(t, "next version", e.NextVersion, "2.0.0")
			}
		}
		want(t, "events", n, 3)
		g.Publish(release(appA, "3.0.0"))
		s.next()
		checks := w.checks(appA)
		if checks[len(checks)-1].session == contacts[0].session {
			t.Error("two updates share a session")
		}
	})
}

// Whatever fails before the verdict is reported with a code of its own.
func TestEvents_failureCodes(t *testing.T) {
	file := testserver.File{Name: "app.bin", Content: []byte("some content")}
	with := func(change func(*testserver.File)) testserver.Release {
		f := file
		change(&f)
		return testserver.Release{Version: "2.0.0", Files: []testserver.File{f}}
	}
	plain := with(func(*testserver.File) {})
	older := testserver.Release{Version: "0.5.0", AnyVersion: true, Files: []testserver.File{file}}
	for _, tc := range []struct {
		name    string
		release testserver.Release
		fault   testserver.FileFault
		code    omaha.ExitCode
		op      string
		cause   error
		path    string // of the server's record
	}{
		{"wrong hash", plain, testserver.FileFault{Corrupt: true}, omaha.ExitHash, "verify", fetcher.ErrDigest, "downloading, "},
		{"too large", plain, testserver.FileFault{Append: 5}, omaha.ExitSize, "verify", fetcher.ErrSize, "downloading, "},
		{"too small", plain, testserver.FileFault{Content: []byte("short")}, omaha.ExitSize, "verify", fetcher.ErrSize, "downloading, "},
		{"404", plain, testserver.FileFault{Status: 404}, omaha.ExitTransfer, "fetch", nil, "downloading, "},
		{"connection cut", plain, testserver.FileFault{Cut: true}, omaha.ExitTransfer, "fetch", nil, "downloading, "},
		{"stalled", plain, testserver.FileFault{Stall: true}, omaha.ExitTransfer, "fetch", fetcher.ErrTooSlow, "downloading, "},
		{
			"unsupported type", with(func(f *testserver.File) { f.ContentType = "application/x-tape" }),
			testserver.FileFault{}, omaha.ExitUnsupportedType, "fetch", fetcher.ErrUnsupportedType, "downloading, ",
		},
		{
			"no hash", with(func(f *testserver.File) { f.SHA1 = testserver.None }),
			testserver.FileFault{}, omaha.ExitVerification, "verify", fetcher.ErrNoHash, "downloading, ",
		},
		{
			"junk for a hash", with(func(f *testserver.File) { f.SHA1 = "junk" }),
			testserver.FileFault{}, omaha.ExitVerification, "verify", fetcher.ErrNoHash, "downloading, ",
		},
		{"offer without a package", testserver.Release{Version: "2.0.0"}, testserver.FileFault{}, omaha.ExitResponseInvalid, "check", nil, ""},
		{
			"offer without a URL", testserver.Release{Version: "2.0.0", Files: []testserver.File{file}, Codebases: []string{}},
			testserver.FileFault{}, omaha.ExitResponseInvalid, "check", nil, "",
		},
		{
			"offer of a version that is none", testserver.Release{Version: "2 or 3", AnyVersion: true, Files: []testserver.File{file}},
			testserver.FileFault{}, omaha.ExitResponseInvalid, "check", nil, "",
		},
		{"downgrade", older, testserver.FileFault{}, omaha.ExitDeferredPolicy, "", nil, ""},
		{
			"fetcher with a code of its own", with(func(f *testserver.File) { f.ContentType = "application/x-own" }),
			testserver.FileFault{}, 77, "fetch", nil, "downloading, ",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.group(appA).Publish(tc.release)
				w.Payloads.Fail("", -1, tc.fault)
				own := fetchFunc(func(context.Context, fetcher.Job) (fetcher.Payload, error) { return fetcher.Payload{}, exitError(77) })
				c := w.client(app(appA), omahaclient.WithFetcher("application/x-own", own))
				w.updates(c)
				i := w.reaches(appA, testserver.Error)
				want(t, "code", omaha.ExitCode(i.ErrorCode), tc.code)
				synctest.Wait()
				if history := w.history(appA); !strings.HasPrefix(history, "granted, "+tc.path+"error ") {
					t.Errorf("history %s", history)
				}
				err := status(t, c, appA).LastError
				if tc.op == "" {
					must(t, err) // a refusal is no failure
					return
				}
				wantFailure(t, err, tc.op, tc.code)
				if tc.cause != nil {
					wantErr(t, err, tc.cause)
				}
			})
		})
	}
}

// What an unusable answer is as a whole has codes too; there is nothing to report it about.
func TestEvents_noneWithoutAGrant(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		w.Fail(1, testserver.HTMLPage())
		w.Fail(1, testserver.BareDeclaration())
		s := w.updates(w.client(app(appA)))
		s.silent(48 * time.Hour)
		want(t, "events", w.events(appA), "")
	})
}

// Nebraska only logs a 3/1 of Flatcar's own app: it takes 3/2 with the version that ran before.
func TestEvents_flatcarCompletesBy32(t *testing.T) {
	for _, id := range []string{omaha.FlatcarAppID, "{" + strings.ToUpper(omaha.FlatcarAppID) + "}"} {
		inBubble(t, func(t *testing.T, w *world) {
			w.offering(omaha.FlatcarAppID, "2.0.0")
			must(t, w.updates(w.client(app(id))).next().Ack(nil))
			synctest.Wait()
			var last testserver.Event
			for _, c := range w.contacts(id) {
				for _, e := range c.Events {
					last = e
				}
			}
			want(t, "event", last, testserver.Event{Type: 3, Result: 2, PreviousVersion: "1.0.0", NextVersion: "2.0.0"})
			want(t, "history", w.history(id), "granted, downloading, downloaded, complete")
		})
	}
}

// Nebraska drops what comes more than a day after the last ping: an update that takes long says that it is alive.
func TestEvents_longUpdatesStayAlive(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		slow := fetchFunc(func(ctx context.Context, job fetcher.Job) (fetcher.Payload, error) {
			select {
			case <-time.After(50 * time.Hour):
			case <-ctx.Done():
			}
			return fetchedFromMemory().Fetch(ctx, job)
		})
		c := w.client(
			app(appA), omahaclient.WithFetcher("binary", slow),
			omahaclient.WithSchedule(omahaclient.Schedule{Min: 100 * time.Hour, Max: 100 * time.Hour}),
		)
		o := w.updates(c).next()
		time.Sleep(50 * time.Hour)
		must(t, o.Ack(nil))
		synctest.Wait()
		want(t, "history", w.history(appA), "granted, downloading, downloaded, complete")
		for _, d := range gaps(w.contacts(appA)) {
			if d > 13*time.Hour {
				t.Errorf("silent for %v", d)
			}
		}
	})
}

// A report that comes after a day of silence has a ping before it, in a request of its own.
func TestEvents_pingFirstAfterSilence(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		o := s.next()
		synctest.Wait()
		s.stop()
		time.Sleep(30 * time.Hour)
		must(t, o.Ack(nil))
		w.flush(c)
		want(t, "status", w.instance(appA).Status, testserver.Complete)
	})
}

// What was reported is not reported again by a process that goes on with the same update.
func TestEvents_onceAcrossRestarts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.group(appA).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "a", Content: []byte(strings.Repeat("x", 5000))}}})
		path := testserver.FilePath(appA, "2.0.0", "a")
		w.Payloads.Fail(path, 1, testserver.FileFault{Stall: true, After: 2000})
		c := w.client(app(appA))
		w.updates(c)
		w.wait("half of the payload", func() bool { return w.Payloads.Stats(path).Bytes == 2000 })
		time.Sleep(5 * time.Second)
		must(t, c.Close())
		c = w.client(app(appA))
		o := w.updates(c).next()
		want(t, "attempt", o.Attempt, 1)
		synctest.Wait()
		must(t, c.Close())
		must(t, w.updates(w.client(app(appA))).next().Ack(errors.New("no")))
		synctest.Wait()
		want(t, "events", w.events(appA), "13/1, 14/1, 3/0 1")
		all := w.Payloads.Requests()
		want(t, "requests of the payload", len(all), 2)
		want(t, "range of the second", all[1].Range, "bytes=2000-4999")
	})
}
