package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/container"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/wait"
	"github.com/nebraska/omahaclient/omaha"
)

// errForeign says that somebody else made a container with the service's name while an update was under way.
var errForeign = errors.New("somebody else made a container of this name meanwhile")

func isForeign(err error) bool { return errors.Is(err, errForeign) }

// oldStarts is how often the old container is started where the engine takes that, and yet it does not run.
const oldStarts = 3

// rollBack puts the old container back because of cause, which has this code. It gets its time whatever ended the update.
func (u *update) rollBack(ctx context.Context, cause error, code omaha.ExitCode) error {
	if err := u.putBack(context.WithoutCancel(ctx)); err != nil {
		return refused(errors.Join(cause, fmt.Errorf("the old container could not be put back, look at %s and %s: %w", u.s.Name, u.old(), err)))
	}
	err := fmt.Errorf("container %s is back on its old image: %w", u.s.Name, cause)
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if ill := u.wait(ctx, theOld); ill != nil {
		err = errors.Join(err, fmt.Errorf("and is not well there: %w", ill))
	}
	return omahaclient.WithCode(err, code)
}

// putBack puts the old container in the new one's place. What fails is tried again: nothing may run until then.
func (u *update) putBack(ctx context.Context) error { return u.again(ctx, u.grace(u.was), u.back) }

// back is one try of putBack. The old container has another name than the service's until it was seen to run: after a crash
// it says that this is to be done.
func (u *update) back(ctx context.Context) error {
	old, err := u.look(ctx)
	if err != nil {
		return err
	}
	runs := running(old)
	if u.stopping && alive(old) {
		if err := u.stop(ctx, old); err != nil {
			return err
		}
		runs = false
	}
	u.stopping = false
	failed := u.mayRestart(ctx, old)
	if err := u.removeNext(ctx, old); err != nil {
		return err
	}
	if !runs {
		if err := u.started(ctx, old); err != nil {
			return err
		}
	}
	if nameOf(old) != u.s.Name {
		if err := u.rename(ctx, old.ID, u.s.Name); err != nil {
			return err
		}
	}
	if u.next != nil {
		u.forget(ctx, u.next)
	}
	return failed // once more
}

// look returns the old container as it is now. One that somebody has removed (as docker system prune does with what is
// stopped) is made again.
func (u *update) look(ctx context.Context) (*container.InspectResponse, error) {
	now, err := u.inspect(ctx, u.s.Name)
	if err != nil {
		return nil, err
	}
	if now != nil && now.ID != u.was.ID && (u.next == nil || now.ID != u.next.ID) {
		return nil, errForeign
	}
	old, err := u.inspect(ctx, u.was.ID)
	if err != nil || old != nil {
		return old, err
	}
	if err := u.createAgain(ctx); err != nil {
		return nil, fmt.Errorf("the old container is gone, somebody has removed it (as docker system prune does), and it cannot be made again: %w", err)
	}
	if old, err = u.inspect(ctx, u.old()); err == nil && old == nil {
		err = errors.New("the old container is gone again")
	}
	if err != nil {
		return nil, err
	}
	again := *u.was
	again.ID, u.was, u.stopping = old.ID, &again, false
	return old, nil
}

// createAgain creates the old container of what is known of it. That is only in memory: it may hold secrets.
func (u *update) createAgain(ctx context.Context) error {
	if made, err := u.inspect(ctx, u.old()); err != nil || made != nil { // by a try that was not answered
		return err
	}
	defaults, err := u.imageConfig(ctx, u.was.Image)
	if err != nil {
		return err
	}
	options := recreated(u.was, defaults)
	options.Name, options.HostConfig.RestartPolicy = u.old(), u.policy
	if image, err := u.image(ctx, options.Config.Image); err != nil || image.ID != u.was.Image {
		options.Config.Image = u.was.Image // the name has gone to another one
	}
	_, err = u.create(ctx, options)
	return err
}

// mayRestart gives the old container its restart policy back.
func (u *update) mayRestart(ctx context.Context, old *container.InspectResponse) error {
	has := policy(old)
	if has.IsSame(&u.policy) || has.IsNone() && u.policy.IsNone() {
		return nil
	}
	return u.restarts(ctx, old.ID, u.policy)
}

// removeNext removes the new container. Before that it loses the service's name: an engine goes on with a removal when
// whoever asked for it is gone, so that what has the name must not be about to end.
func (u *update) removeNext(ctx context.Context, old *container.InspectResponse) error {
	if u.next == nil {
		return nil
	}
	if u.exchanged {
		_ = u.rename(ctx, u.next.ID, u.new()) // or it is removed as it is
	}
	err := u.remove(ctx, u.next.ID)
	if err != nil && u.stop(ctx, u.next) == nil {
		return errors.Join(err, u.started(ctx, old)) // better under another name than not at all
	}
	return err
}

// started starts the old container, and sees it run. One that ends each time by itself counts as started: its restart policy
// tells what is to become of it.
func (u *update) started(ctx context.Context, old *container.InspectResponse) error {
	for range oldStarts {
		if err := u.start(ctx, old.ID); err != nil {
			return err
		}
		c, err := u.inspect(ctx, old.ID)
		if err != nil {
			return err
		}
		if c != nil && running(c) {
			return nil
		}
		if err := wait.For(ctx, u.pause); err != nil {
			return err
		}
	}
	return nil
}
