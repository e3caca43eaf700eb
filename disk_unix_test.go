//go:build unix

package omahaclient_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

const childMark = "OMAHACLIENT_TEST_CHILD"

// inChild reports whether this is the child process that a test with a disk of its own needs: go test itself writes to a file.
// In the parent it runs the test in such a child, and that is it.
func inChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childMark) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), childMark+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// diskFull lets every write to a file of this process fail (EFBIG, which is handled like ENOSPC) until it is lifted.
func diskFull(t *testing.T) (lift func()) {
	t.Helper()
	var was syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	none := was
	none.Cur = 0
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &none))
	return func() { must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was)) }
}

// A verdict that cannot be written returns the cause, stands in memory, is delivered, and is written again.
func TestVerdict_diskFull(t *testing.T) {
	if !inChild(t) {
		return
	}
	for _, tc := range []struct {
		name    string
		verdict func(omahaclient.UpdateOffer) error
		history string
		version string
	}{
		{"Ack nil", func(o omahaclient.UpdateOffer) error { return o.Ack(nil) }, "complete", "2.0.0"},
		{"Ack error", func(o omahaclient.UpdateOffer) error { return o.Ack(exitError(7)) }, "error 7", "0.0.0"},
		{"Defer", func(o omahaclient.UpdateOffer) error { return o.Defer(time.Hour) }, "error 36", "0.0.0"},
		{"Installed", omahaclient.UpdateOffer.Installed, "installed", "2.0.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "2.0.0")
				c := w.client(appAt(appA, ""))
				s := w.updates(c)
				o := s.next()
				synctest.Wait()
				lift := diskFull(t)
				err := tc.verdict(o)
				again := o.Ack(nil)
				synctest.Wait() // delivered
				lift()
				wantErr(t, err, syscall.EFBIG)
				wantErr(t, again, omahaclient.ErrSettled)
				want(t, "history", w.history(appA), "granted, downloading, downloaded, "+tc.history)

				time.Sleep(10 * time.Hour) // written with the next contacts, without a Close
				w.dir = copyOf(t, w.dir)
				want(t, "version after a crash", status(t, w.client(appAt(appA, "")), appA).Version, tc.version)
			})
		})
	}
}

// An event that cannot be written stands in memory, and is delivered from there once: SendEvent waits for that, and says nothing of the
// disk then; where ctx ends before, it says both.
func TestSendEvent_diskFull(t *testing.T) {
	if !inChild(t) {
		return
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.group(appA)
		c := w.client(app(appA))
		ping := omaha.Event{Type: 54, Result: 1}
		must(t, c.SendEvent(t.Context(), appA, ping))
		lift := diskFull(t)
		delivered := c.SendEvent(t.Context(), appA, ping)
		w.Offline(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		queued := c.SendEvent(ctx, appA, ping)
		pending := status(t, c, appA).PendingEvents
		w.Offline(false)
		flushed := c.Flush(t.Context())
		lift()
		must(t, delivered)
		wantErr(t, queued, syscall.EFBIG)
		wantErr(t, queued, context.DeadlineExceeded)
		want(t, "pending", pending, 1)
		must(t, flushed)
		want(t, "events", w.events(appA), "54/1, 54/1, 54/1")
	})
}

// A step that cannot be written holds the offer back: a crash could hand it over twice without a word.
func TestUpdates_diskFullHoldsTheOfferBack(t *testing.T) {
	if !inChild(t) {
		return
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(app(appA), omahaclient.WithFetcher("binary", fetchedFromMemory()))
		s := w.updates(c)
		time.Sleep(time.Minute)
		lift := diskFull(t)
		var early bool
		select {
		case <-s.ch:
			early = true
		case <-time.After(3 * time.Hour):
		}
		err := status(t, c, appA).LastError
		lift()
		want(t, "handed over", early, false)
		if !errors.Is(err, syscall.EFBIG) {
			t.Errorf("last error %v; want %v", err, syscall.EFBIG)
		}
		must(t, s.next().Ack(nil))
		w.reaches(appA, testserver.Complete)
	})
}
