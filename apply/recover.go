package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

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
// Starts are what it can count, whatever they end in: a crash, a reboot, or the proper end of a call on the command line
// (agent --help) that comes here while no other process of the program runs. So let Recover alone where a command line asks for
// something else than the program's service, and let that confirm its version before long (the probe of Binary, or Client.Confirm).
// A start while another process uses the directory is not counted: that process is the one on trial.
//
// The count is written over the one before, which takes no room on a full disk. Where that fails all the same (a file system that
// copies what it writes and is full, one that has become read-only), the start counts as the last: the version from before is put
// back at once. A machine then misses an update that may have been good, and tries it again later, but never keeps one that crashes.
//
// stateDir is as for omahaclient.WithStateDir; "" resolves as there. A directory of another app that cannot be read is part of the
// error, and stops nothing. Without a trial under way Recover reads one small file for each app's directory.
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
	var errs []error
	for _, dir := range dirs {
		t, err := state.LoadTrial(dir)
		if err == nil && t != nil && t.Path == x.path {
			err = recoverTrial(dir, x)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("recover: %w", err))
		}
	}
	return errors.Join(errs...)
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
	reason := t.Reason
	if !t.RolledBack {
		reason = fmt.Sprintf("it started %d times without being confirmed", t.Starts)
		if t.Starts < maxStarts {
			t.Starts++
			err := x.steps.take("count start", func() error { return t.Mark(dir) })
			if err == nil {
				return nil
			}
			reason = fmt.Sprintf("its start could not be counted: %v", err)
		}
	}
	unmarked, err := endTrial(dir, t, x, reason)
	if err != nil {
		return err
	}
	back := &restartError{how: RestartExec, path: x.path, version: "before " + t.Version}
	if !canExec {
		return errors.Join(back, unmarked)
	}
	return errors.Join(back, unmarked, execSelf(x.path))
}

// inPlace reports whether the version on trial is what the next start gets.
func inPlace(t *state.Trial) bool {
	digest, err := digestOf(t.Path)
	return err == nil && digest == t.Digest
}

// endTrial puts the version from before back. The mark comes first: after a crash between the two, Recover does the rest. Where the
// mark cannot be written, the version is put back all the same; only that the server learns of it later, since the program must have
// started three times (omahaclient.UpdateOffer.Installed).
func endTrial(dir string, t *state.Trial, x executable, reason string) (unmarked, err error) {
	if _, err := os.Stat(t.Old); err != nil {
		return nil, fmt.Errorf("version %s is to be rolled back (%s), but the one before is gone: %w", t.Version, reason, err)
	}
	t.RolledBack, t.Reason = true, shortened(reason)
	unmarked = x.steps.take("mark rollback", func() error {
		err := t.Save(dir)
		if err != nil && t.Mark(dir) == nil { // a full disk: the reason is lost
			return nil
		}
		return err
	})
	return unmarked, x.putBack()
}

// shortened makes one line of a reason, to be kept on disk.
func shortened(reason string) string {
	const most = 300
	reason = strings.Join(strings.Fields(reason), " ")
	return strings.ToValidUTF8(reason[:min(len(reason), most)], "")
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
	unmarked, err := endTrial(client.StateDir(), t, x, fmt.Sprintf("it is not healthy: %v", failure))
	if err != nil {
		return fmt.Errorf("version %s is not healthy (%w), and cannot be rolled back: %w", t.Version, failure, err)
	}
	return errors.Join(fmt.Errorf("version %s is not healthy: %w; the one before is put back: %w", t.Version, failure,
		&restartError{how: b.Restart, path: x.path, version: "before " + t.Version}), unmarked)
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
