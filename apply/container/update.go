package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/omaha"
)

// update is one under way: two containers, one of which is to run under the service's name in the end. What a crash leaves
// of it tells the next process how far it came: as long as the new container has the service's name, the old one may have
// been asked to end, and engines go on with that when whoever asked is gone; while nobody has the name, it was not.
type update struct {
	*engine

	was    *container.InspectResponse // the old container, as it was
	next   *container.InspectResponse // the new one, as it was created; nil: there is none (any more)
	digest string                     // of the new image's manifest
	policy container.RestartPolicy    // that the service's container has

	exchanged bool // the new one has the service's name
	stopping  bool // the old one may have been asked to end, and has perhaps not yet
}

func policy(c *container.InspectResponse) container.RestartPolicy {
	if c.HostConfig == nil {
		return container.RestartPolicy{}
	}
	return c.HostConfig.RestartPolicy
}

// prepare loads the image and creates the new container beside the one that runs.
func (e *engine) prepare(ctx context.Context, payload fetcher.Payload, version string) (*update, error) {
	now, err := e.inspect(ctx, e.s.Name)
	if err == nil {
		err = e.suits(now)
	}
	if err == nil {
		err = e.shared(ctx, now)
	}
	if err != nil {
		return nil, err
	}
	image, err := e.load(ctx, payload, version)
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	defaults, err := e.imageConfig(ctx, now.Image)
	if err != nil {
		return nil, fmt.Errorf("look at the old image: %w", err)
	}
	options := recreated(now, defaults)
	options.Name = e.new()
	options.Config.Image = image
	options.Config.Labels[labelDigest] = payload.Digest
	id, err := e.create(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("create new container: %w", err)
	}
	next, err := e.inspect(ctx, id)
	if err == nil && next == nil {
		err = errors.New("the engine does not know it")
	}
	if err != nil {
		return nil, fmt.Errorf("look at the new container: %w", err)
	}
	return &update{engine: e, was: now, next: next, digest: payload.Digest, policy: policy(now)}, nil
}

// suits refuses a container that cannot be updated.
func (e *engine) suits(now *container.InspectResponse) error {
	switch {
	case now == nil:
		return errors.New("there is no such container: create it once, updates follow its configuration")
	case nameOf(now) != e.s.Name:
		return fmt.Errorf("this is the id of container %s: give Service.Name its name, which the new one gets, too", nameOf(now))
	case now.Config == nil || now.HostConfig == nil || now.State == nil:
		return errors.New("the engine does not tell its configuration")
	case now.HostConfig.AutoRemove:
		return errors.New("it was created with --rm, so that the engine would remove it as it stops: recreate it without")
	case now.State.Paused:
		return errors.New("it is paused: unpause it first")
	case !now.State.Running:
		return errors.New("it does not run, and an update would start it: start it first, or recreate it on an image on which it can run")
	default:
		return nil
	}
}

// apply takes the update from two containers to one: the new one where it proves itself, otherwise the old one.
func (u *update) apply(ctx context.Context) error {
	ended := false
	defer func() {
		if !ended { // by a panic, or by the end of the goroutine
			_ = u.rollBack(ctx, errors.New("the update panicked"), omaha.ExitRolledBack)
		}
	}()
	code := omaha.ExitPostInstall
	err := u.exchange(ctx)
	if err == nil {
		code = omaha.ExitRolledBack
		err = u.stopOld(ctx)
	}
	if err == nil { // nothing is between the two: nothing runs here
		err = u.prove(ctx)
	}
	ended = true
	if err != nil {
		return u.rollBack(ctx, err, code)
	}
	return u.commit(ctx)
}

// exchange gives the new container the name of the old one, which still runs.
func (u *update) exchange(ctx context.Context) error {
	if u.exchanged {
		return nil
	}
	if err := u.rename(ctx, u.was.ID, u.old()); err != nil {
		return err
	}
	if err := u.rename(ctx, u.next.ID, u.s.Name); err != nil {
		return err
	}
	u.exchanged = true
	return nil
}

func (u *update) stopOld(ctx context.Context) error {
	u.stopping = true
	if err := u.stop(ctx, u.was); err != nil {
		return err
	}
	u.stopping = false
	return nil
}

// keepDown keeps the engine from starting the old container when it is started itself. Where that fails (podman 4
// cannot), Recover stops it again.
func (u *update) keepDown(ctx context.Context) {
	if p := policy(u.was); !p.IsNone() {
		_ = u.restarts(ctx, u.was.ID, container.RestartPolicy{Name: container.RestartPolicyDisabled})
	}
}

// commit makes the new container's success last: from the old one's new name on, nothing puts that back. The end of ctx does
// not end it.
func (u *update) commit(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	err := u.again(ctx, 0, func(ctx context.Context) error {
		err := u.rename(ctx, u.was.ID, u.done())
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		if failed := u.remove(ctx, u.was.ID); failed != nil { // which says the same
			return errors.Join(err, failed)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("update container %s: the new one runs and is well, but the old one stays in its way, remove %s: %w", u.s.Name, u.old(), err)
	}
	_ = u.retire(ctx, u.was.ID) // or by the next start of Serve, or the next update
	return nil
}
