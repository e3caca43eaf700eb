package omahaclient_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// A payload that a program has linked into its place is not written to when it is fetched again.
func TestUpdates_doesNotWriteToWhatIsInstalled(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		same := testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: []byte("the same for both\n")}}}
		w.group(appA).Publish(same)
		g := w.group(appB)
		c := w.client(app(appA), app(appB))
		s := w.updates(c)
		a := s.next()
		installed := filepath.Join(w.dir, "installed")
		must(t, os.Link(a.Payloads[0].Path, installed))
		g.Publish(same)
		must(t, c.CheckNow(t.Context(), appB))
		b := s.next()
		want(t, "app", b.AppID, appB)
		must(t, os.WriteFile(b.Payloads[0].Path, []byte("changed by its program"), 0o600))
		must(t, a.Ack(errors.New("does not start")))
		want(t, "app", s.next().AppID, appA)
		wantFile(t, installed, same.Files[0].Content)
	})
}

// An event that no server takes would hold up every report behind it.
func TestSendEvent_refusesEndlessVersions(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "1.0.0")
		c := w.client(app(appA))
		err := c.SendEvent(t.Context(), appA, omaha.Event{Type: omaha.EventTypeUpdateComplete, NextVersion: strings.Repeat("9", 1<<20)})
		if err == nil || status(t, c, appA).PendingEvents != 0 {
			t.Errorf("SendEvent = %v; status %+v", err, c.Status())
		}
	})
}
