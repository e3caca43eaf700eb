package container

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/omaha"
)

// engine is the container engine, and the three names that an update uses there.
type engine struct {
	*client.Client
	s Service
}

func (e *engine) old() string { return e.s.Name + oldSuffix }
func (e *engine) new() string { return e.s.Name + newSuffix }

// inspect returns a container; nil where there is none.
func (e *engine) inspect(ctx context.Context, name string) (*container.InspectResponse, error) {
	r, err := e.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return nil, nil //nolint:nilnil // no container is no error
	}
	if err != nil {
		return nil, err
	}
	return &r.Container, nil
}

// settle brings what a crash left to one container under the service's name that runs. It reports whether that is the one
// of the image with this digest, whose health is still to be waited for.
func (e *engine) settle(ctx context.Context, digest string) (going bool, err error) {
	if err := e.remove(ctx, e.new()); err != nil {
		return false, err
	}
	old, err := e.inspect(ctx, e.old())
	if err != nil || old == nil {
		return false, err
	}
	now, err := e.inspect(ctx, e.s.Name)
	switch {
	case err != nil:
		return false, err
	case now == nil:
		return false, e.putBack(ctx)
	case digest != "" && label(now) == digest:
		return true, e.start(ctx, e.s.Name)
	case now.State != nil && now.State.Running:
		return false, e.remove(ctx, e.old())
	default:
		if err := e.remove(ctx, e.s.Name); err != nil {
			return false, err
		}
		return false, e.putBack(ctx)
	}
}

func label(c *container.InspectResponse) string {
	if c.Config == nil {
		return ""
	}
	return c.Config.Labels[labelDigest]
}

// prepare loads the image and creates the new container beside the one that runs.
func (e *engine) prepare(ctx context.Context, payload fetcher.Payload, version string) error {
	now, err := e.inspect(ctx, e.s.Name)
	switch {
	case err != nil:
		return err
	case now == nil:
		return errors.New("there is no such container: create it once, updates follow its configuration")
	case now.Config == nil || now.HostConfig == nil:
		return errors.New("the engine does not tell its configuration")
	case now.HostConfig.AutoRemove:
		return errors.New("it was created with --rm, so that the engine would remove it as it stops: recreate it without")
	}
	image, err := e.load(ctx, payload, version)
	if err != nil {
		return fmt.Errorf("load image: %w", err)
	}
	options := recreated(now, e.imageConfig(ctx, now.Image))
	options.Name = e.new()
	options.Config.Image = image
	options.Config.Labels[labelDigest] = payload.Digest
	if _, err := e.ContainerCreate(ctx, options); err != nil {
		return fmt.Errorf("create new container: %w", err)
	}
	return nil
}

// swap stops the old container and starts the new one under its name.
func (e *engine) swap(ctx context.Context) error {
	if err := e.stop(ctx, e.s.Name); err != nil {
		return fmt.Errorf("stop old container: %w", err)
	}
	if err := e.rename(ctx, e.s.Name, e.old()); err != nil {
		return err
	}
	if err := e.rename(ctx, e.new(), e.s.Name); err != nil {
		return err
	}
	return e.start(ctx, e.s.Name)
}

// rollBack puts the old container back because of cause.
func (e *engine) rollBack(ctx context.Context, cause error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollBackTime) // whatever ends the update
	defer cancel()
	if err := e.back(limited); err != nil {
		return refused(errors.Join(cause, fmt.Errorf("the old container %s could not be put back: %w", e.old(), err)))
	}
	err := fmt.Errorf("container %s is back on its old image: %w", e.s.Name, cause)
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return omahaclient.WithCode(err, omaha.ExitRolledBack)
}

func (e *engine) back(ctx context.Context) error {
	old, err := e.inspect(ctx, e.old())
	if err != nil {
		return err
	}
	if old == nil { // it never lost its name
		return errors.Join(e.start(ctx, e.s.Name), e.remove(ctx, e.new()))
	}
	if err := errors.Join(e.remove(ctx, e.s.Name), e.remove(ctx, e.new())); err != nil {
		return err
	}
	return e.putBack(ctx)
}

// putBack gives the old container its name, and starts it.
func (e *engine) putBack(ctx context.Context) error {
	if err := e.rename(ctx, e.old(), e.s.Name); err != nil {
		return err
	}
	return e.start(ctx, e.s.Name)
}

// start starts a container; one that runs stays as it is.
func (e *engine) start(ctx context.Context, name string) error {
	if _, err := e.ContainerStart(ctx, name, client.ContainerStartOptions{}); err != nil && !errdefs.IsNotModified(err) {
		return fmt.Errorf("start container %s: %w", name, err)
	}
	return nil
}

func (e *engine) stop(ctx context.Context, name string) error {
	options := client.ContainerStopOptions{}
	if e.s.Stop > 0 {
		seconds := max(int(e.s.Stop/time.Second), 1)
		options.Timeout = &seconds
	}
	_, err := e.ContainerStop(ctx, name, options)
	if errdefs.IsNotModified(err) {
		return nil
	}
	return err
}

func (e *engine) rename(ctx context.Context, from, to string) error {
	if _, err := e.ContainerRename(ctx, from, client.ContainerRenameOptions{NewName: to}); err != nil {
		return fmt.Errorf("rename container %s to %s: %w", from, to, err)
	}
	return nil
}

// remove removes a container, if there is one. Its volumes stay.
func (e *engine) remove(ctx context.Context, name string) error {
	_, err := e.ContainerRemove(ctx, name, client.ContainerRemoveOptions{Force: true})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("remove container %s: %w", name, err)
}

const (
	healthTime  = 2 * time.Minute
	healthStays = 10 * time.Second
	healthPause = 250 * time.Millisecond
)

// wait waits until the service's container is healthy, or has run for long enough.
func (e *engine) wait(ctx context.Context) error {
	within := orDefault(e.s.Within, healthTime)
	limit := time.Now().Add(within)
	enough := time.Now().Add(orDefault(e.s.Stays, healthStays))
	for {
		c, err := e.inspect(ctx, e.s.Name)
		if err != nil {
			return err
		}
		done, err := well(c, time.Now().After(enough))
		if done || err != nil {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("container %s is not healthy within %v", e.s.Name, within)
		}
		timer := time.NewTimer(healthPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// well reports whether the container has proved itself, or why it has failed.
func well(c *container.InspectResponse, ranEnough bool) (done bool, err error) {
	if c == nil || c.State == nil {
		return false, errors.New("the new container is gone")
	}
	state := c.State
	switch {
	case !state.Running || state.Restarting || c.RestartCount > 0:
		return false, fmt.Errorf("the new container ended with status %d %s", state.ExitCode, state.Error)
	case state.Health == nil || state.Health.Status == "" || state.Health.Status == container.NoHealthcheck:
		return ranEnough, nil
	case state.Health.Status == container.Unhealthy:
		return false, errors.New("the new container is unhealthy by its own health check")
	default:
		return state.Health.Status == container.Healthy, nil
	}
}
