package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/nebraska/omahaclient"
)

// prove makes the current version used, and asks whether it is well; where not, the link goes back. fresh says that this
// Apply switched to it.
func (a Archive) prove(ctx context.Context, t *tree, folder string, fresh bool) error {
	note, known := t.note(folder)
	fn := a.Activate
	if note.Proved && !fresh {
		fn = nil // it is used since
	}
	if err := activate(ctx, a.steps, fn, a.Probe); err != nil {
		if ctx.Err() != nil {
			return err // the offer comes again, or Restore, and goes on here
		}
		return a.rollBack(t, folder, err) //nolint:contextcheck // whatever ends the update
	}
	if known && (!note.Proved || note.Back) {
		note.Proved, note.Back = true, false
		_ = t.remember(folder, note) // or the next start proves it once more: it is well
	}
	t.prune(max(a.Keep, minKeep), folder)
	return nil
}

// rollBack goes back to where the link led before a version, because of cause.
func (a Archive) rollBack(t *tree, folder string, cause error) error {
	note, known := t.note(folder)
	if err := t.wayBack(note, known); err != nil {
		return stuck(fmt.Errorf("%w; %s stays at version %s: %w", cause, a.Dir, folder, err))
	}
	note.Back = true
	_ = t.remember(folder, note) // or the next start asks the probe again, before it goes back
	err := t.point(note.Before)
	if t.link() != note.Before {
		return stuck(fmt.Errorf("%w; %s stays at version %s until the next start, for the link cannot go back: %w", cause, a.Dir, folder, err))
	}
	cause = activateOld(a.steps, a.Activate, cause)
	if err != nil {
		cause = errors.Join(cause, fmt.Errorf("that may not last: %w", err))
	} else {
		cause = errors.Join(cause, t.remove(folder))
	}
	return rolledBack(fmt.Errorf("%s is back at %s: %w", a.Dir, t.describe(note.Before), cause))
}

// describe names what a link leads to.
func (t *tree) describe(link string) string {
	switch folder := t.ours(link); {
	case link == "":
		return "nothing"
	case folder != "":
		return "version " + folder
	default:
		return link
	}
}

// Restore ends what a crash interrupted, whether or not its offer comes again: where a version had become current and had
// not been proved, Activate and Probe are asked about it, and the link goes back if they fail; that is the error then. A
// rollback under way is ended. Serve calls it at its start; a program that does not use Serve calls it before it asks for
// updates, not beside an Apply. client and appID are not used.
func (a Archive) Restore(ctx context.Context, _ *omahaclient.Client, _ string) error {
	t, err := a.tree()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore archive: %w", err)
	}
	defer t.root.Close()
	err = a.endRollBacks(t) //nolint:contextcheck // as a rollback does
	folder := t.current()
	if note, known := t.note(folder); known && !note.Proved && !note.Back {
		return errors.Join(err, a.prove(ctx, t, folder, true))
	}
	return err
}

// endRollBacks ends rollbacks that were interrupted.
func (a Archive) endRollBacks(t *tree) error {
	var errs []error
	for folder, note := range t.notes() {
		switch _, err := t.root.Lstat(t.path(folder)); {
		case !note.Back:
		case t.current() == folder:
			errs = append(errs, a.rollBack(t, folder, errRollBackCut))
		case err == nil && t.link() == note.Before: // but perhaps not used again
			errs = append(errs, activateOld(a.steps, a.Activate, nil), t.remove(folder))
		default:
			errs = append(errs, t.remove(folder))
		}
	}
	return errors.Join(errs...)
}
