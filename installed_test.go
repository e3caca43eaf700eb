package omahaclient_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// Installed: the next start, or boot, decides. The stories of crashes and restarts are in restart_test.go.

// install takes an app to a restart that is still to come, and ends that process.
func (w *world) install(opts ...omahaclient.Option) {
	w.t.Helper()
	c := w.client(opts...)
	s := w.updates(c)
	must(w.t, s.next().Installed())
	synctest.Wait() // reported
	s.stop()
	must(w.t, c.Close())
	want(w.t, "status", w.instance(appA).Status, testserver.Installed)
}

func (w *world) lastEvent(id string) (last testserver.Event) {
	for _, c := range w.contacts(id) {
		for _, e := range c.Events {
			last = e
		}
	}
	return last
}

func TestInstalled_newVersionRuns(t *testing.T) {
	for _, version := range []string{"2.0.0", "v2.0.0", ""} {
		t.Run("given "+version, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				given := func(v string) string {
					if version == "" {
						return ""
					}
					return v
				}
				w.offering(appA, "2.0.0")
				w.install(appAt(appA, given("1.0.0")))
				c := w.client(appAt(appA, version))
				want(t, "version", status(t, c, appA).Version, "2.0.0")
				w.flush(c)
				previous := "1.0.0"
				if version == "" {
					previous = "0.0.0"
				}
				want(t, "event", w.lastEvent(appA), testserver.Event{Type: 3, Result: 2, PreviousVersion: previous, NextVersion: "2.0.0"})
				want(t, "history", w.history(appA), "granted, downloading, downloaded, installed, complete")
			})
		})
	}
}

func TestInstalled_oldVersionStillRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.install(app(appA))
		for start := 1; start <= 3; start++ {
			c := w.client(app(appA))
			w.flush(c)
			if start < 3 {
				want(t, "phase", status(t, c, appA).Phase, omahaclient.RestartPending)
			} else {
				want(t, "event", w.lastEvent(appA), testserver.Event{Type: 3, Result: 0, ErrorCode: 44, PreviousVersion: "1.0.0", NextVersion: "2.0.0"})
				want(t, "version", status(t, c, appA).Version, "1.0.0")
				wantFailure(t, status(t, c, appA).LastError, "apply", 44)
			}
			must(t, c.Close())
		}
		want(t, "history", w.history(appA), "granted, downloading, downloaded, installed, error 44")
	})
}

func TestInstalled_waitsForTheRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		must(t, s.next().Installed())
		g.Publish(release(appA, "3.0.0"))
		s.silent(7 * 24 * time.Hour)
		want(t, "checks", len(w.checks(appA)), 1) // it only pings
		st := status(t, c, appA)
		want(t, "phase", st.Phase, omahaclient.RestartPending)
		want(t, "target", st.Target, "2.0.0")
		want(t, "version", st.Version, "1.0.0")
		if !strings.Contains(st.Reason, "waits for a restart of the program since 2000-01-01") {
			t.Errorf("reason %q", st.Reason)
		}
		want(t, "in progress", w.instance(appA).InProgress, true)
	})
}

func TestWithReboot_waitsForTheBoot(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		opts := func(boot string) []omahaclient.Option {
			return []omahaclient.Option{appAt(appA, "", omahaclient.WithReboot()), omahaclient.WithBootID(boot)}
		}
		w.install(opts("boot-1")...)
		for range 5 { // restarts of the program do not count
			c := w.client(opts("boot-1")...)
			st := status(t, c, appA)
			want(t, "phase", st.Phase, omahaclient.RestartPending)
			want(t, "version", st.Version, "0.0.0")
			if !strings.Contains(st.Reason, "reboot") {
				t.Errorf("reason %q", st.Reason)
			}
			must(t, c.Close())
		}
		c := w.client(opts("boot-2")...)
		want(t, "version", status(t, c, appA).Version, "2.0.0")
		w.flush(c)
		want(t, "history", w.history(appA), "granted, downloading, downloaded, installed, complete")
	})
}

func TestConfirm(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		manual := omahaclient.WithManualConfirm()
		w.install(app(appA, manual))
		c := w.client(appAt(appA, "2.0.0", manual))
		w.updates(c)
		time.Sleep(24 * time.Hour)
		want(t, "status before", w.instance(appA).Status, testserver.Installed)
		st := status(t, c, appA)
		want(t, "phase", st.Phase, omahaclient.RestartPending)
		if !strings.Contains(st.Reason, "waits for Confirm") {
			t.Errorf("reason %q", st.Reason)
		}
		wantErr(t, c.Confirm("io.example.Other"), omahaclient.ErrUnknownApp)
		must(t, c.Confirm(appA))
		synctest.Wait()
		want(t, "history", w.history(appA), "granted, downloading, downloaded, installed, complete")
		must(t, c.Confirm(appA)) // nothing is left to be confirmed
		synctest.Wait()
		want(t, "event", w.lastEvent(appA), testserver.Event{Type: 3, Result: 2, PreviousVersion: "1.0.0", NextVersion: "2.0.0"})
		must(t, c.Close())
		wantErr(t, c.Confirm(appA), omahaclient.ErrClosed)
	})
}

// Without a restart to be confirmed, Confirm does nothing: not before any update, and not for the version that still runs.
func TestConfirm_nothingToConfirm(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA, omahaclient.WithManualConfirm()))
		must(t, c.Confirm(appA))
		s := w.updates(c)
		o := s.next()
		must(t, c.Confirm(appA))
		must(t, o.Installed())
		must(t, c.Confirm(appA)) // this process is the old version
		synctest.Wait()
		want(t, "history", w.history(appA), "granted, downloading, downloaded, installed")
	})
}
