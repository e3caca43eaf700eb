package apply

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/state"
)

// maxStarts is how often a new version of this program may start without having been confirmed.
const maxStarts = 3

// Recover is for a program that replaces itself (Binary), to be called first thing in main, before anything that may fail:
//
//	func main() {
//		if err := apply.Recover(""); err != nil {
//			log.Print(err) // and go on; an error that is omahaclient.ErrRestartRequired asks for the program's end
//		}
//
// It puts the version from before back once a new version has started three times without being confirmed, and executes
// that in this process's place; where that cannot be (Windows), it returns an error that is omahaclient.ErrRestartRequired.
// The server is told by the next Client, with code 44. It also answers the trial execution of a new version before it is put
// in place, by exiting with 0.
//
// stateDir is as for omahaclient.WithStateDir; "" resolves as there. A start while another process uses the directory is not
// counted: that process is the one on trial. Without a trial under way Recover reads one small file.
func Recover(stateDir string) error { return recoverSelf(stateDir, nil) }

func recoverSelf(stateDir string, s steps) error {
	if os.Getenv(tryEnv) != "" {
		os.Exit(0) //nolint:forbidigo // the answer to Binary's question
	}
	x, err := Binary{steps: s}.executable()
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	dirs, err := state.Candidates(stateDir)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	for _, dir := range dirs {
		t, err := state.LoadTrial(dir)
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		if t == nil || t.Path != x.path {
			continue
		}
		if err := recoverTrial(dir, x); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
	}
	return nil
}

// recoverTrial counts a start of the version on trial, and rolls it back where it has had enough.
func recoverTrial(dir string, x executable) error {
	release, err := state.Lock(dir)
	if errors.Is(err, state.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	t, err := state.LoadTrial(dir) // once more: nobody changes it now
	if err != nil || t == nil || !inPlace(t) {
		return err
	}
	if !t.RolledBack && t.Starts < maxStarts {
		t.Starts++
		return x.steps.take("count start", func() error { return t.Save(dir) })
	}
	if err := endTrial(dir, t, x); err != nil {
		return err
	}
	back := &restartError{how: RestartExec, path: x.path, version: "before " + t.Version}
	if !canExec {
		return back
	}
	return fmt.Errorf("%w: %w", back, execSelf(x.path))
}

// inPlace reports whether the version on trial is what the next start gets.
func inPlace(t *state.Trial) bool {
	digest, err := digestOf(t.Path)
	return err == nil && digest == t.Digest
}

// endTrial puts the version from before back. The mark comes first: after a crash between the two, Recover does the rest.
func endTrial(dir string, t *state.Trial, x executable) error {
	if _, err := os.Stat(t.Old); err != nil {
		return fmt.Errorf("version %s started %d times and was not confirmed, but the one before is gone: %w", t.Version, t.Starts, err)
	}
	t.RolledBack = true
	if err := x.steps.take("mark rollback", func() error { return t.Save(dir) }); err != nil {
		return err
	}
	return x.putBack()
}

// Resume lets a new version of this program prove itself, where it is to be confirmed (omahaclient.WithManualConfirm).
func (b Binary) Resume(ctx context.Context, client *omahaclient.Client, appID string) error {
	x, err := b.executable()
	if err != nil || !x.self {
		return err
	}
	t, err := state.LoadTrial(client.StateDir())
	if err != nil || t == nil || t.AppID != appID || t.Path != x.path || t.RolledBack || !inPlace(t) || !runs(client, t) {
		return err
	}
	failure := b.steps.take("probe", func() error { return healthy(ctx, b.Probe) })
	if ctx.Err() != nil {
		return context.Cause(ctx) // unproven; this start is counted
	}
	if failure == nil {
		return b.steps.take("confirm", func() error { return client.Confirm(appID) })
	}
	if err := endTrial(client.StateDir(), t, x); err != nil {
		return fmt.Errorf("version %s is not healthy (%w), and cannot be rolled back: %w", t.Version, failure, err)
	}
	return fmt.Errorf("version %s is not healthy: %w; the one before is put back: %w", t.Version, failure,
		&restartError{how: b.Restart, path: x.path, version: "before " + t.Version})
}

// runs reports whether the version on trial is what this process reports as its own.
func runs(client *omahaclient.Client, t *state.Trial) bool {
	for _, s := range client.Status() {
		if s.AppID == t.AppID {
			return s.Phase == omahaclient.RestartPending && s.Target == t.Version && s.Version == t.Version
		}
	}
	return false
}
