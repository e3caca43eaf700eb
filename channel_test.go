package omahaclient_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// The tests of the public contracts. What is promised, and where it is held:
//
//	The channel
//	1 made, fed and closed once by the Client, after its goroutines  TestUpdates_closesAfterItsGoroutines, _closesOnce; TestClose_leavesNoGoroutine
//	2 Err: nil before and while open, the cause afterwards           TestErr_…
//	  a round that ended by itself; outages                          TestUpdatesOnce_… (once_test.go)
//	3 unbuffered, nothing dropped, nothing ages                      TestUpdates_isUnbuffered, _dropsNothingThatWasNotReceived, _nothingAgesInABuffer
//	  one open offer per app, slow consumers                         TestUpdates_oneOpenOfferPerApp, _slowConsumerDelaysNoOtherApp
//	4 a second stream waits                                          TestUpdates_secondStreamWaits, _secondStreamMayLeaveTheQueue
//	5 failures never close it                                        TestUpdates_failuresNeverCloseIt
//	6 delivered again, without a download, one verdict               TestUpdates_redeliversInProcess, _redeliversToTheNextClient; redelivery_test.go
//	UpdateOffer's fields, Attempt, files                             TestUpdateOffer_… (verdict_test.go)
//	The verdict
//	each one's report, codes, ErrSettled; the first wins             TestVerdict, TestVerdict_firstWinsUnderConcurrency, _ackedVersionIsCurrent
//	after the channel closed, after Close, of a zero offer           TestVerdict_afterTheChannelClosed, _afterCloseIsErrClosed, _unbound
//	on disk when it returns; a full disk                             TestVerdict_isDurableWhenItReturns, _diskFull; crash_test.go
//	Ack(err) backs off, Defer pings, downgrades                      TestBackoff_…, TestDefer_…, TestDowngrade_… (hold_test.go, backoff_test.go)
//	Installed, WithReboot, WithManualConfirm, Confirm                TestInstalled_…, TestWithReboot_…, TestConfirm… (installed_test.go, restart_test.go)
//	The rest of Client
//	CheckNow                                                         TestCheckNow_…; ignoring gate, backoff, delay: TestWithGate_isAskedPerApp,
//	                                                                 TestBackoff_endsByAnotherVersionAndByCheckNow, TestRetryAfter_survivesARestart
//	SendEvent, Flush; what delivers, and what that means             TestSendEvent_…, TestFlush, TestOutbox_delivers, _deliveredMeans; outbox_test.go
//	Close, concurrent use                                            TestClose_…, TestClient_isSafeForConcurrentUse
//	Status                                                           TestStatus_…
//	New: nothing sent, no goroutine, every mistake at once           TestNew_… (options_test.go, statedir_test.go)
//	the state directory, its lock, the machine's id and alias        TestStateDir_…, TestNew_stateLockedNamesTheDirectoryAndAWayOut, TestWithMachine…
//	Versions                                                         TestWithApp_…, TestVersions_…, TestNew_reportsAnInvalidOption
//	Options: schedule, floors, server-asked delays                   TestSchedule_…, TestRetryAfter_…
//	  gate, age                                                      TestWithGate_…, TestWithMinAge_…
//	  channel, payload type, fetchers, logger                        TestWithChannel, TestWithPayloadType, TestWithFetcher_…, TestWithLogger_…
//	  workers, several apps                                          TestWithWorkers_…, TestApps_…
//	  progress                                                       TestWithProgress_…
//	  credentials for the Omaha server alone; names are labels       TestCredentials_…, TestNames_…
//	Events by themselves, their codes, Flatcar                       TestEvents_…
//	A server that nobody here wrote                                  TestTrivialServer_…

// The channel, 1.

func TestUpdates_closesAfterItsGoroutines(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "2.0.0")
		var fetching, leaving, asking atomic.Int32
		slow := fetchFunc(func(ctx context.Context, _ fetcher.Job) (fetcher.Payload, error) {
			fetching.Add(1)
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			leaving.Add(1)
			return fetcher.Payload{}, ctx.Err()
		})
		gate := func(id string, _ time.Time) (bool, time.Time) {
			if id == appC {
				asking.Add(1)
				time.Sleep(time.Hour)
				asking.Add(-1)
			}
			return true, time.Time{}
		}
		s := w.updates(w.client(app(appA), app(appB), omahaclient.WithFetcher("binary", slow)))
		w.wait("both are fetched", func() bool { return fetching.Load() == 2 })
		s.end(errDone)
		wantErr(t, s.closed(), errDone)
		want(t, "fetches that returned", leaving.Load(), 2)

		w.dir = t.TempDir()
		s = w.updates(w.client(app(appC), omahaclient.WithGate(gate)))
		time.Sleep(16 * time.Minute)
		want(t, "gates that are asked", asking.Load(), 1)
		s.end(errDone)
		wantErr(t, s.closed(), errDone)
		want(t, "gates that are asked after the close", asking.Load(), 0)
	})
}

func TestUpdates_closesOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		s.next()
		var ends sync.WaitGroup
		for range 8 {
			ends.Go(func() { s.end(errDone) })
			ends.Go(func() { c.Close() })
		}
		ends.Wait()
		if err := s.closed(); !errors.Is(err, errDone) && !errors.Is(err, omahaclient.ErrClosed) {
			t.Errorf("Err = %v", err)
		}
		s.closed() // drained for good
	})
}

// Nothing of a stream, and nothing of a Client, outlives it. TestMain and the bubbles hold every other test to the same.
func TestClose_leavesNoGoroutine(t *testing.T) {
	w := onSockets(t)
	w.offering(appA, "2.0.0")
	w.offering(appB, "2.0.0")
	w.Payloads.Fail(fileOf(appB, "2.0.0"), 1, testserver.FileFault{Stall: true, After: 5})
	c := w.client(app(appA), app(appB), quick())
	s := w.updates(c)
	s.next()
	w.wait("B is fetched", func() bool { return w.Payloads.Stats(fileOf(appB, "2.0.0")).Requests == 1 })
	before := goroutinesOf("omahaclient.(*Client)")
	s.stop()
	if before == 0 {
		t.Error("no goroutine of the Client is found while it works: this test cannot fail")
	}
	want(t, "goroutines after the stream", goroutinesOf("omahaclient.(*Client)"), 0)
	must(t, c.Close())
	want(t, "goroutines after Close", goroutinesOf("nebraska/omahaclient.", "omaha.(*Client)", "bbolt"), 0)
}

// The channel, 2.

func TestErr_isNilBeforeAndWhileAStreamIsOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.Offline(true)
		c := w.client(app(appA))
		must(t, c.Err())
		s := w.updates(c)
		must(t, c.Err())
		s.silent(5 * time.Hour)
		must(t, c.Err())
		s.end(errDone)
		wantErr(t, s.closed(), errDone)

		w.updates(c)
		synctest.Wait()
		must(t, c.Err()) // open again
	})
}

func TestErr_isTheCauseAfterwards(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		{"cancelled", context.WithCancel, context.Canceled},
		{"past its deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Hour)
		}, context.DeadlineExceeded},
		{"cancelled with a cause", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(errDone) }
		}, errDone},
		{"cancelled before it began", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, context.Canceled},
	} {
		for _, open := range []struct {
			name string
			ask  func(*omahaclient.Client, context.Context) <-chan omahaclient.UpdateOffer
		}{{"Updates", (*omahaclient.Client).Updates}, {"UpdatesOnce", (*omahaclient.Client).UpdatesOnce}} {
			t.Run(open.name+" "+tc.name, func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					w.Offline(true)
					c := w.client(app(appA))
					ctx, cancel := tc.end(context.Background())
					defer cancel()
					ch := open.ask(c, ctx)
					if tc.name != "past its deadline" {
						time.AfterFunc(time.Minute, cancel)
					}
					for range ch {
						t.Error("offer without a server")
					}
					wantErr(t, c.Err(), tc.want)
				})
			})
		}
	}
}

func TestErr_isErrClosedAfterClose(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.client(app(appA))
		s := w.updates(c)
		synctest.Wait()
		must(t, c.Close())
		wantErr(t, s.closed(), omahaclient.ErrClosed)
	})
	inBubble(t, func(t *testing.T, w *world) {
		c := w.client(app(appA))
		w.updates(c).stop()
		wantErr(t, c.Err(), errDone)
		must(t, c.Close())
		for range c.Updates(t.Context()) {
			t.Error("an offer of a closed client")
		}
		wantErr(t, c.Err(), omahaclient.ErrClosed) // so that a loop around Updates ends
	})
}

// The channel, 3.

func TestUpdates_isUnbuffered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.client(app(appA))
		want(t, "capacity of Updates", cap(w.updates(c).ch), 0)
		want(t, "capacity of UpdatesOnce", cap(w.once(c).ch), 0)
	})
}

func TestUpdates_dropsNothingThatWasNotReceived(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "2.0.0")
		c := w.client(app(appA), app(appB))
		for range 3 {
			s := w.updates(c)
			time.Sleep(12 * time.Hour) // nobody receives
			s.end(errDone)
			synctest.Wait()
		}
		s := w.updates(c)
		first, second := s.next(), s.next()
		if first.AppID == second.AppID {
			t.Errorf("%s twice", first.AppID)
		}
		want(t, "attempt: it was handed over once", first.Attempt, 1)
		want(t, "downloads", w.Payloads.Stats("").Requests, 2)
	})
}

// An offer that was settled while it waited to be received once more is not sent.
func TestUpdates_nothingAgesInABuffer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		o := s.next()
		s.stop()
		s = w.updates(c)
		synctest.Wait() // it is offered again
		must(t, o.Ack(nil))
		s.silent(24 * time.Hour)
		want(t, "history", w.history(appA), "granted, downloading, downloaded, complete")
	})
}

func TestUpdates_oneOpenOfferPerApp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		s := w.updates(w.client(app(appA)))
		o := s.next()
		checks := len(w.checks(appA))
		g.Publish(release(appA, "3.0.0"))
		s.silent(48 * time.Hour)
		want(t, "checks while an offer is open", len(w.checks(appA)), checks)
		must(t, o.Ack(nil))
		o = s.next()
		want(t, "version", o.Version, "3.0.0")
		want(t, "current version", o.CurrentVersion, "2.0.0")
	})
}

func TestUpdates_slowConsumerDelaysNoOtherApp(t *testing.T) {
	for _, tc := range []struct {
		name     string
		received bool
	}{
		{"received and not settled", true},
		{"not even received", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				b := w.group(appB)
				c := w.client(app(appA), app(appB))
				s := w.updates(c)
				if tc.received {
					s.next()
				}
				w.reaches(appA, testserver.Downloaded) // reports go out
				before := time.Now()
				time.Sleep(24 * time.Hour)
				wantSchedule(t, w.checks(appB), before, 45*time.Minute, 90*time.Minute)
				b.Publish(release(appB, "2.0.0"))
				w.reaches(appB, testserver.Downloaded) // checked, fetched, reported
				synctest.Wait()
				want(t, "B's phase", status(t, c, appB).Phase, omahaclient.Offered)
				at := time.Now()
				time.Sleep(23 * time.Hour)
				if last := w.instance(appA).LastCheck; last.Before(at) {
					t.Errorf("A was last pinged at %v, before %v", last, at)
				}
				if !tc.received {
					want(t, "first in line", s.next().AppID, appA)
				}
				o := s.next()
				want(t, "next in line", o.AppID, appB)
				must(t, o.Ack(nil))
				w.reaches(appB, testserver.Complete)
			})
		})
	}
}

// The channel, 4.

func TestUpdates_secondStreamWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		first := w.updates(c)
		synctest.Wait()
		second := w.updates(c)
		o := first.next()
		if len(w.log.lines("level=WARN msg=\"a second stream")) != 1 {
			t.Errorf("no warning in the log:\n%s", w.log)
		}
		second.silent(24 * time.Hour)
		must(t, c.Err())
		must(t, o.Ack(nil)) // without harm to the first
		g.Publish(release(appA, "3.0.0"))
		want(t, "the first goes on", first.next().Version, "3.0.0")
		first.stop()
		o = second.next()
		want(t, "the second takes over", o.Version, "3.0.0")
		must(t, c.Err())
		must(t, o.Ack(nil))
		g.Publish(release(appA, "4.0.0"))
		want(t, "and goes on", second.next().Version, "4.0.0")
	})
}

func TestUpdates_secondStreamMayLeaveTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		first := w.updates(c)
		synctest.Wait()
		second := w.updates(c)
		synctest.Wait()
		second.end(errDone)
		for range second.ch {
			t.Error("an offer on a stream that never opened")
		}
		must(t, c.Err()) // the first is open
		must(t, first.next().Ack(nil))
	})
}

// The channel, 5.

func TestUpdates_failuresNeverCloseIt(t *testing.T) {
	file := fileOf(appA, "2.0.0")
	for _, tc := range []struct {
		name  string
		spoil func(*world)
		code  omaha.ExitCode
		most  int // requests in six hours
	}{
		{"server down", func(w *world) { w.Offline(true) }, omaha.ExitOmahaRequest, 0},
		{"HTML page", func(w *world) { w.Fail(-1, testserver.HTMLPage()) }, omaha.ExitResponseXML, 8},
		{"404", func(w *world) { w.Fail(-1, testserver.StatusFault(http.StatusNotFound)) }, omaha.ExitHTTPBase + 404, 8},
		{"503", func(w *world) { w.Fail(-1, testserver.StatusFault(http.StatusServiceUnavailable)) }, omaha.ExitHTTPBase + 503, 40},
		{"no body", func(w *world) { w.Fail(-1, testserver.EmptyBody()) }, omaha.ExitEmptyResponse, 8},
		{"bare declaration", func(w *world) { w.Fail(-1, testserver.BareDeclaration()) }, omaha.ExitEmptyResponse, 8},
		{"huge answer", func(w *world) { w.Fail(-1, testserver.Huge(2<<20)) }, omaha.ExitResponseInvalid, 8},
		{"no answer", func(w *world) { w.Fail(-1, testserver.Fault{Unseen: true, Stall: true}) }, omaha.ExitOmahaRequest, 40},
		{"another app", func(w *world) { w.Fail(-1, testserver.WrongApp("io.example.Other")) }, omaha.ExitResponseInvalid, 16},
		{"payload missing", func(w *world) { w.Payloads.Fail(file, -1, testserver.FileFault{Status: http.StatusNotFound}) }, omaha.ExitTransfer, 0},
		{"payload corrupt", func(w *world) { w.Payloads.Fail(file, -1, testserver.FileFault{Corrupt: true}) }, omaha.ExitHash, 0},
		{"payload host down", func(w *world) { w.Payloads.Offline(true) }, omaha.ExitTransfer, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				g := w.offering(appA, "2.0.0")
				tc.spoil(w)
				c := w.client(app(appA))
				s := w.updates(c)
				s.silent(6 * time.Hour)
				must(t, c.Err())
				var failure *omahaclient.Error
				if err := status(t, c, appA).LastError; !errors.As(err, &failure) || failure.Code != tc.code || failure.AppID != appA {
					t.Errorf("last error %v; want code %d", err, tc.code)
				}
				if n := len(w.Requests()); tc.most > 0 && n > tc.most {
					t.Errorf("%d requests in six hours: no backoff", n)
				}
				w.Heal()
				w.Payloads.Heal()
				w.Offline(false)
				w.Payloads.Offline(false)
				g.Publish(release(appA, "2.0.1"))
				must(t, s.next().Ack(nil))
				w.reaches(appA, testserver.Complete)
			})
		})
	}
}

// The channel, 6.

func TestUpdates_redeliversInProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		first := s.next()
		synctest.Wait() // all is reported so far
		s.stop()
		s = w.updates(c)
		second := s.next()
		want(t, "version", second.Version, "2.0.0")
		want(t, "path", second.Payloads[0].Path, first.Payloads[0].Path)
		want(t, "attempt", second.Attempt, 2)
		want(t, "downloads", w.Payloads.Stats("").Requests, 1)
		must(t, first.Ack(nil))
		wantErr(t, second.Ack(nil), omahaclient.ErrSettled)
		w.reaches(appA, testserver.Complete)
		want(t, "events", w.events(appA), "13/1, 14/1, 3/1")
	})
}

func TestUpdates_redeliversToTheNextClient(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		for attempt := 1; attempt <= 3; attempt++ {
			c := w.client(app(appA))
			s := w.updates(c)
			o := s.next()
			want(t, "version", o.Version, "2.0.0")
			want(t, "attempt", o.Attempt, attempt)
			want(t, "current version", o.CurrentVersion, "1.0.0")
			want(t, "channel", o.Channel, track)
			wantFile(t, o.Payloads[0].Path, content(appA, "2.0.0"))
			synctest.Wait() // a report whose answer is not heard would be sent again
			if attempt == 3 {
				must(t, o.Ack(nil))
			}
			s.stop()
			must(t, c.Close())
		}
		want(t, "downloads", w.Payloads.Stats("").Requests, 1)
		want(t, "grants", w.Grants(appA), 1)
		want(t, "history", w.history(appA), "granted, downloading, downloaded, complete")
	})
}
