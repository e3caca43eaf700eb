package omahaclient_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

type exitError int

func (e exitError) Error() string { return fmt.Sprint("installer says ", int(e)) }
func (e exitError) ExitCode() int { return int(e) }

// failedCommand is what os/exec says of a command that exits with a code.
func failedCommand(t *testing.T) *exec.ExitError {
	t.Helper()
	err := exec.CommandContext(t.Context(), os.Args[0], "-test.no_such_flag").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() <= 1 {
		t.Fatalf("this test needs a command that fails with a code above 1, not %v", err)
	}
	return exit
}

func TestVerdict(t *testing.T) {
	broken := errors.New("disk on fire")
	command := failedCommand(t)
	acks := func(err error) func(omahaclient.UpdateOffer) error {
		return func(o omahaclient.UpdateOffer) error { return o.Ack(err) }
	}
	for _, tc := range []struct {
		name    string
		verdict func(omahaclient.UpdateOffer) error
		event   string
		status  string
		phase   omahaclient.Phase
		version string // current from now on
	}{
		{"Ack nil", acks(nil), "3/1", "complete", omahaclient.Idle, "2.0.0"},
		{"Ack WithCode of nil", acks(omahaclient.WithCode(nil, 5)), "3/1", "complete", omahaclient.Idle, "2.0.0"},
		{"Ack error", acks(broken), "3/0 1", "error 1", omahaclient.Idle, "1.0.0"},
		{"Ack WithCode", acks(omahaclient.WithCode(broken, omaha.ExitPostInstall)), "3/0 5", "error 5", omahaclient.Idle, "1.0.0"},
		{"Ack wrapped WithCode", acks(fmt.Errorf("step 3: %w", omahaclient.WithCode(broken, 77))), "3/0 77", "error 77", omahaclient.Idle, "1.0.0"},
		{"Ack error with ExitCode", acks(exitError(42)), "3/0 42", "error 42", omahaclient.Idle, "1.0.0"},
		{"Ack error with negative ExitCode", acks(exitError(-1)), "3/0 1", "error 1", omahaclient.Idle, "1.0.0"},
		{
			"Ack ExitError of os/exec", acks(fmt.Errorf("run the installer: %w", command)),
			fmt.Sprint("3/0 ", command.ExitCode()), fmt.Sprint("error ", command.ExitCode()), omahaclient.Idle, "1.0.0",
		},
		{"Ack Error", acks(&omahaclient.Error{Op: "apply", AppID: appA, Code: 18, Err: broken}), "3/0 18", "error 18", omahaclient.Idle, "1.0.0"},
		{"Ack ErrRestartRequired", acks(omahaclient.ErrRestartRequired), "800/1", "installed", omahaclient.RestartPending, "1.0.0"},
		{
			"Ack wrapped ErrRestartRequired", acks(fmt.Errorf("kernel: %w", omahaclient.ErrRestartRequired)),
			"800/1", "installed", omahaclient.RestartPending, "1.0.0",
		},
		{"Installed", omahaclient.UpdateOffer.Installed, "800/1", "installed", omahaclient.RestartPending, "1.0.0"},
		{
			"Defer", func(o omahaclient.UpdateOffer) error { return o.Defer(3 * time.Hour) },
			"3/0 36", "error 36", omahaclient.BackingOff, "1.0.0",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				c := w.client(app(appA))
				s := w.updates(c)
				o := s.next()
				must(t, tc.verdict(o))
				synctest.Wait()
				want(t, "events", w.events(appA), "13/1, 14/1, "+tc.event)
				want(t, "history", w.history(appA), "granted, downloading, downloaded, "+tc.status)
				st := status(t, c, appA)
				want(t, "phase", st.Phase, tc.phase)
				want(t, "version", st.Version, tc.version)
				for _, verdict := range []error{o.Ack(nil), o.Ack(broken), o.Installed(), o.Defer(time.Hour)} {
					wantErr(t, verdict, omahaclient.ErrSettled)
				}
				want(t, "events after ErrSettled", w.events(appA), "13/1, 14/1, "+tc.event)
			})
		})
	}
}

// After Ack(nil) the offered version is the one that is reported, here and by a later Client that leaves it to the journal.
func TestVerdict_ackedVersionIsCurrent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		must(t, s.next().Ack(nil))
		time.Sleep(2 * time.Hour)
		s.stop()
		must(t, c.Close())
		checks := w.checks(appA)
		want(t, "version of the next check", checks[len(checks)-1].Version, "2.0.0")

		g.Publish(release(appA, "3.0.0"))
		c = w.client(appAt(appA, ""))
		want(t, "version in the next process", status(t, c, appA).Version, "2.0.0")
		want(t, "current version", w.updates(c).next().CurrentVersion, "2.0.0")
	})
}

func TestVerdict_firstWinsUnderConcurrency(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.group(appA)
		s := w.updates(w.client(appAt(appA, "0.0.1", omahaclient.WithDowngrades())))
		for round := range 12 {
			version := fmt.Sprintf("%d.0.0", round+1)
			g.Publish(release(appA, version))
			o := s.next()
			want(t, "version", o.Version, version)
			var wins sync.Map // code → true
			var calls sync.WaitGroup
			for i := range 20 {
				calls.Go(func() {
					code := i + 100
					switch err := o.Ack(omahaclient.WithCode(errors.New("no"), omaha.ExitCode(code))); {
					case err == nil:
						wins.Store(code, true)
					case !errors.Is(err, omahaclient.ErrSettled):
						t.Errorf("Ack: %v", err)
					}
				})
			}
			calls.Wait()
			synctest.Wait()
			n := 0
			wins.Range(func(code, _ any) bool {
				n++
				want[any](t, "code that the server has", w.instance(appA).ErrorCode, code)
				return true
			})
			want(t, "verdicts that won", n, 1)
		}
	})
}

func TestVerdict_unbound(t *testing.T) {
	var o omahaclient.UpdateOffer
	for _, err := range []error{o.Ack(nil), o.Ack(errors.New("no")), o.Installed(), o.Defer(time.Hour)} {
		wantErr(t, err, omahaclient.ErrUnbound)
	}
}

func TestVerdict_afterTheChannelClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		s := w.updates(c)
		o := s.next()
		s.stop()
		must(t, o.Ack(nil))
		wantErr(t, o.Ack(nil), omahaclient.ErrSettled)
		w.flush(c)
		want(t, "history", w.history(appA), "granted, downloading, downloaded, complete")
	})
}

func TestVerdict_afterCloseIsErrClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA))
		o := w.updates(c).next()
		must(t, c.Close())
		for range 2 {
			for _, err := range []error{o.Ack(nil), o.Ack(errors.New("no")), o.Installed(), o.Defer(time.Hour)} {
				wantErr(t, err, omahaclient.ErrClosed)
			}
		}
		again := w.updates(w.client(app(appA))).next() // it was not settled
		want(t, "version", again.Version, "2.0.0")
		must(t, again.Ack(nil))
	})
}

// A verdict is on disk when it returns, and does not wait for the server: what a crash right after it leaves behind is
// enough for the next process, whose outbox delivers everything in order.
func TestVerdict_isDurableWhenItReturns(t *testing.T) {
	for _, tc := range []struct {
		name    string
		verdict func(omahaclient.UpdateOffer) error
		history string
	}{
		{"Ack nil", func(o omahaclient.UpdateOffer) error { return o.Ack(nil) }, "complete"},
		{"Ack error", func(o omahaclient.UpdateOffer) error { return o.Ack(exitError(7)) }, "error 7"},
		{"Defer", func(o omahaclient.UpdateOffer) error { return o.Defer(time.Hour) }, "error 36"},
		{"Installed", omahaclient.UpdateOffer.Installed, "installed, complete"}, // by the next start
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				w.FailFunc(func(r testserver.Request) testserver.Fault { // no report comes through
					return testserver.Fault{Unseen: len(r.Apps[0].Events) > 0, Stall: len(r.Apps[0].Events) > 0}
				})
				dying := w.client(appAt(appA, ""))
				o := w.updates(dying).next()
				before := time.Now()
				must(t, tc.verdict(o))
				want(t, "time that it took", time.Since(before), 0)
				w.dir = copyOf(t, w.dir) // a crash: that process says nothing any more
				must(t, dying.Close())
				w.Heal()
				c := w.client(appAt(appA, ""))
				if n := status(t, c, appA).PendingEvents; n < 3 {
					t.Errorf("%d reports are in the outbox; want 13/1, 14/1 and the verdict", n)
				}
				w.flush(c)
				want(t, "history", w.history(appA), "granted, downloading, downloaded, "+tc.history)
			})
		})
	}
}

// What an UpdateOffer tells, with several files in the manifest's order.
func TestUpdateOffer_tellsWhatWasOffered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		files := []testserver.File{
			{Name: "main.bin", Content: []byte("main")},
			{Name: "z-extra.bin", Content: []byte("extra one")},
			{Name: "a-extra.txt", Content: []byte("extra number two"), ContentType: "binary", Metadata: `{"a":1}`},
		}
		w.group(appA).Publish(testserver.Release{Version: "2.0.0", Files: files, Action: &testserver.Action{DisplayVersion: "two"}})
		o := w.updates(w.client(app(appA))).next()
		want(t, "app", o.AppID, appA)
		want(t, "channel", o.Channel, track)
		want(t, "current version", o.CurrentVersion, "1.0.0")
		want(t, "version", o.Version, "2.0.0")
		want(t, "attempt", o.Attempt, 1)
		want(t, "payloads", len(o.Payloads), len(files))
		want(t, "manifest's version", o.Manifest.Version, "2.0.0")
		want(t, "manifest's packages", len(o.Manifest.Packages), len(files))
		want(t, "manifest's metadata", string(o.Manifest.Packages[2].Metadata), `{"a":1}`)
		want(t, "manifest's action", o.Manifest.Actions[0].DisplayVersion, "two")
		for i, f := range files {
			p := o.Payloads[i]
			want(t, "name", p.Name, f.Name)
			want(t, "base name", filepath.Base(p.Path), f.Name)
			want(t, "type", p.MediaType, "binary")
			want(t, "size", p.Size, int64(len(f.Content)))
			want(t, "digest", p.Digest, "sha256:"+testserver.SHA256Hex(f.Content))
			want(t, "package", o.Manifest.Packages[i].Name, f.Name)
			wantFile(t, p.Path, f.Content)
			info, err := os.Stat(p.Path)
			must(t, err)
			if runtime.GOOS != "windows" {
				want(t, "mode", info.Mode(), 0o600)
			}
		}
	})
}

func TestUpdateOffer_filesStayUntilSettled(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		g := w.offering(appB, "2.0.0")
		c := w.client(app(appA), app(appB))
		s := w.updates(c)
		a, b := s.next(), s.next()
		if a.AppID != appA {
			a, b = b, a
		}
		must(t, b.Ack(nil)) // what B cleans up is B's
		g.Publish(release(appB, "3.0.0"))
		must(t, s.next().Ack(nil))
		time.Sleep(48 * time.Hour)
		s.stop()
		w.flush(c)
		wantFile(t, a.Payloads[0].Path, content(appA, "2.0.0"))
		must(t, a.Ack(nil))
		w.flush(c)
		if _, err := os.Stat(b.Payloads[0].Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("B's file is still there: %v", err)
		}
	})
}

// Attempt counts the handing over of one version: across failures, not across versions.
func TestUpdateOffer_attemptCountsPerVersion(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.offering(appA, "2.0.0")
		s := w.updates(w.client(app(appA)))
		for attempt := 1; attempt <= 3; attempt++ {
			o := s.next()
			want(t, "version", o.Version, "2.0.0")
			want(t, "attempt", o.Attempt, attempt)
			must(t, o.Ack(errors.New("no")))
		}
		g.Publish(release(appA, "3.0.0"))
		o := s.next()
		want(t, "version", o.Version, "3.0.0")
		want(t, "attempt", o.Attempt, 1)
	})
}
