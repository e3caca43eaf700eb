//go:build unix

package apply_test

import (
	"context"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/apply"
)

func TestRun_isAnActivate(t *testing.T) {
	_, path := agentAt(t)
	dir := t.TempDir()
	restart := script(t, dir, "restart", `echo "$1" >> "$(dirname "$0")/restarted"`)
	must(t, apply.Binary{Path: path, Activate: apply.Run(restart, "agent")}.Apply(t.Context(), offer(t, "2.0.0", program("2", 0))))
	wantFile(t, dir+"/restarted", "agent\n")
	err := apply.Binary{Path: path, Activate: apply.Run(script(t, dir, "fails", "echo no such unit; exit 5"))}.
		Apply(t.Context(), offer(t, "3.0.0", program("3", 0)))
	wantText(t, err, "activate: run fails: exit status 5; its last words: no such unit")
	want(t, "code", code(err), 44)

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errDone)
	wantErr(t, apply.Run(restart)(ctx), errDone)
}

// A healthy unit may take 90 s to stop, and 90 s to start, by systemd's defaults.
func TestRun_waitsForAHealthyUnit(t *testing.T) {
	if apply.ActivateTime < 2*90*time.Second+30*time.Second {
		t.Errorf("activation is cut after %v", apply.ActivateTime)
	}
	if apply.RollBackTime <= apply.ActivateTime {
		t.Errorf("activation of the old version is cut after %v", apply.RollBackTime)
	}
	err := apply.RunWithin(20*time.Millisecond, "sleep", "60")(t.Context())
	wantText(t, err, "no exit within 20ms")
}
