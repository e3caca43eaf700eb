package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/omaha"
)

// prove makes what is in place run, and asks whether it is well; where not, the one from before is put back.
func (b Binary) prove(ctx context.Context, x executable, s *swap) error {
	fn := b.Activate
	if s != nil && s.Proved {
		fn = nil // it runs since
	}
	if err := activate(ctx, b.steps, fn, b.Probe); err != nil {
		if ctx.Err() != nil {
			return err // the offer comes again, or Restore, and goes on here
		}
		return b.rollBack(x, s, err) //nolint:contextcheck // whatever ends the update
	}
	if s != nil && !s.Proved {
		s.Proved, s.Back = true, false
		_ = x.saveSwap(s) // or the next start proves it once more: it runs and is well
	}
	return nil
}

// rollBack puts the old executable back because of cause.
func (b Binary) rollBack(x executable, s *swap, cause error) error {
	if s == nil {
		return refused(fmt.Errorf("%s was in place already, and stays: %w", x.path, cause))
	}
	back, err := x.goBack(s)
	if !back {
		return stuck(fmt.Errorf("%w; the new %s stays, for the one from before could not be put back: %w", cause, x.path, err))
	}
	cause = activateOld(b.steps, b.Activate, cause)
	if err == nil {
		_ = x.dropSwap() // or the next start makes it run once more
	} else {
		cause = errors.Join(cause, fmt.Errorf("that may not last: %w", err))
	}
	return rolledBack(fmt.Errorf("%s is put back: %w", x.path, cause))
}

// Restore ends what a crash interrupted, whether or not its offer comes again: where a replacement had taken place and had
// not been proved, Activate and Probe are asked about it, and the executable from before is put back if they fail; that is
// the error then. A rollback under way is ended. Serve calls it at its start; a program that does not use Serve calls it
// before it asks for updates, not beside an Apply. client and appID are not used. A program that replaces itself is up to
// Recover and Resume.
func (b Binary) Restore(ctx context.Context, _ *omahaclient.Client, _ string) error {
	x, err := b.executable()
	if err != nil || x.self {
		return err
	}
	s, err := x.loadSwap()
	if err != nil || s == nil || s.Proved && !s.Back {
		return err
	}
	now, err := x.present()
	switch {
	case err != nil:
		return err
	case now == s.Old && !s.placed(now): // not replaced yet; or put back, but perhaps not made to run
		if s.Back {
			err = activateOld(b.steps, b.Activate, nil) //nolint:contextcheck // as a rollback does
		}
		return errors.Join(err, x.dropSwap())
	case now == "" || s.Back && s.placed(now):
		return b.rollBack(x, s, errRollBackCut) //nolint:contextcheck // as a rollback does
	case !s.placed(now): // somebody has put another one there since
		return x.dropSwap()
	}
	return b.prove(ctx, x, s)
}

var errRollBackCut = errors.New("a rollback had been interrupted")

// stuck says that an update is in place, proved to be bad, and could not be undone.
func stuck(err error) error { return omahaclient.WithCode(err, omaha.ExitError) }
