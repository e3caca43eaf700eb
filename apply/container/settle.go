package container

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/container"
)

// found returns the update that was interrupted, nil for none, and the container that has the service's name.
func (e *engine) found(ctx context.Context) (u *update, now *container.InspectResponse, err error) {
	old, err := e.inspect(ctx, e.old())
	if err != nil || old == nil {
		return nil, nil, err // a container that was only prepared is removed by the next Apply
	}
	if now, err = e.inspect(ctx, e.s.Name); err != nil {
		return nil, nil, err
	}
	u = &update{engine: e, was: old, policy: policy(old)}
	switch {
	case now == nil: // in the exchange, before the stop, or in a rollback, after that
		u.next, err = e.inspect(ctx, e.new())
	case ours(now):
		u.next, u.exchanged, u.stopping = now, true, true
	}
	if u.next != nil {
		u.digest, u.policy = label(u.next), policy(u.next)
	}
	return u, now, err
}

// recover lets one of both run, where an update was interrupted.
func (e *engine) recover(ctx context.Context) error {
	u, now, err := e.found(ctx)
	switch {
	case err != nil || u == nil:
		return err
	case now != nil && !ours(now): // made meanwhile by somebody else
		return nil
	case now == nil || !alive(now):
		return u.putBack(ctx)
	case alive(u.was): // by the engine's own start
		u.keepDown(ctx)
		return e.again(ctx, e.grace(u.was), func(ctx context.Context) error { return e.stop(ctx, u.was) })
	default:
		return nil
	}
}

// settle ends an update that was interrupted, so that there is one container, under the service's name. It returns the
// update instead, to go on with, where that is to the image with this digest.
func (e *engine) settle(ctx context.Context, digest string) (*update, error) {
	_ = e.retire(ctx, e.done()) // or by the next one
	u, now, err := e.found(ctx)
	switch {
	case err != nil:
		return nil, err
	case u == nil:
		return nil, e.again(ctx, 0, func(ctx context.Context) error { return e.remove(ctx, e.new()) })
	case now == nil:
		return nil, u.putBack(ctx)
	case !ours(now) && running(now):
		return nil, e.remove(ctx, u.was.ID)
	case !ours(now):
		return nil, fmt.Errorf("it was made by somebody else while an update was under way, and does not run: start it, or remove it "+
			"and rename %s to %s", e.old(), e.s.Name)
	case digest != "" && u.digest == digest:
		return u, nil
	}
	if err := u.healthy(ctx, theNew); err == nil {
		return nil, u.commit(ctx)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, u.putBack(ctx)
}
