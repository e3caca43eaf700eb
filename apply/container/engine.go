package container

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// both returns the containers that have the service's name and the kept one's; nil for those that there are not.
func (e *engine) both(ctx context.Context) (now, old *container.InspectResponse, err error) {
	if old, err = e.inspect(ctx, e.old()); err == nil {
		now, err = e.inspect(ctx, e.s.Name)
	}
	return now, old, err
}

// recover lets one of both run, where an update was interrupted.
func (e *engine) recover(ctx context.Context) error {
	now, old, err := e.both(ctx)
	switch {
	case err != nil || old == nil:
		return err // a container that was only prepared is removed by the next Apply
	case now == nil:
		return e.putBack(ctx)
	case !ours(now):
		return nil
	case !running(now):
		return e.back(ctx)
	case running(old): // by the engine's own start
		return e.stop(ctx, e.old())
	default:
		return nil
	}
}

// settle ends an update that was interrupted, so that there is one container, under the service's name. It reports whether
// to go on instead: with that of the image with this digest.
func (e *engine) settle(ctx context.Context, digest string) (going bool, err error) {
	if err := e.remove(ctx, e.new()); err != nil {
		return false, err
	}
	now, old, err := e.both(ctx)
	switch {
	case err != nil || old == nil:
		return false, err
	case now == nil:
		return false, e.putBack(ctx)
	case !ours(now) && running(now): // made meanwhile by somebody else
		return false, e.remove(ctx, e.old())
	case !ours(now):
		return false, fmt.Errorf("it was made by somebody else while an update was under way, and does not run: start it, or remove it "+
			"and rename %s to %s", e.old(), e.s.Name)
	case digest != "" && label(now) == digest:
		return true, nil
	}
	if err := e.s.healthy(ctx, e, theNew); err == nil {
		_ = e.retire(ctx, e.old()) // or by the next update
		return false, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return false, e.back(ctx)
}

// ours reports whether an update made the container.
func ours(c *container.InspectResponse) bool { return label(c) != "" }

func running(c *container.InspectResponse) bool { return c.State != nil && c.State.Running }

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
	if err := e.shared(ctx, now); err != nil {
		return err
	}
	image, err := e.load(ctx, payload, version)
	if err != nil {
		return fmt.Errorf("load image: %w", err)
	}
	defaults, err := e.imageConfig(ctx, now.Image)
	if err != nil {
		return fmt.Errorf("look at the old image: %w", err)
	}
	options := recreated(now, defaults)
	options.Name = e.new()
	options.Config.Image = image
	options.Config.Labels[labelDigest] = payload.Digest
	if err := e.create(ctx, options); err != nil {
		return fmt.Errorf("create new container: %w", err)
	}
	return nil
}

// exchange gives the new container the name of the old one, which still runs.
func (e *engine) exchange(ctx context.Context) error {
	if err := e.rename(ctx, e.s.Name, e.old()); err != nil {
		return err
	}
	return e.rename(ctx, e.new(), e.s.Name)
}

// swap stops the old container and starts the new one. Nothing is between the two: nothing runs there.
func (e *engine) swap(ctx context.Context) error {
	if err := e.stop(ctx, e.old()); err != nil {
		return fmt.Errorf("stop old container: %w", err)
	}
	return e.start(ctx, e.s.Name)
}

// rollBack puts the old container back because of cause, which has this code.
func (e *engine) rollBack(ctx context.Context, cause error, code omaha.ExitCode) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollBackTime) // whatever ends the update
	defer cancel()
	if err := e.back(limited); err != nil {
		return refused(errors.Join(cause, fmt.Errorf("the old container could not be put back, look at %s and %s: %w", e.s.Name, e.old(), err)))
	}
	err := fmt.Errorf("container %s is back on its old image: %w", e.s.Name, cause)
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if ill := e.wait(ctx, theOld); ill != nil {
		err = errors.Join(err, fmt.Errorf("and is not well there: %w", ill))
	}
	return omahaclient.WithCode(err, code)
}

// back puts the old container in the new one's place.
func (e *engine) back(ctx context.Context) error {
	now, old, err := e.both(ctx)
	if err != nil {
		return err
	}
	if old == nil { // it never lost its name, and was not stopped
		return errors.Join(e.start(ctx, e.s.Name), e.retire(ctx, e.new()))
	}
	image := e.imageOf(ctx, e.s.Name)
	if now != nil {
		if err := e.remove(ctx, e.s.Name); err != nil {
			return errors.Join(err, e.start(ctx, e.old())) // better under another name than not at all
		}
	}
	if err := e.putBack(ctx); err != nil {
		return err
	}
	e.forget(ctx, image)
	return e.remove(ctx, e.new())
}

// putBack starts the old container, and then gives it its name.
func (e *engine) putBack(ctx context.Context) error {
	return errors.Join(e.start(ctx, e.old()), e.rename(ctx, e.old(), e.s.Name))
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

// retire removes a container that the service does not need any more, and its image.
func (e *engine) retire(ctx context.Context, name string) error {
	image := e.imageOf(ctx, name)
	if err := e.remove(ctx, name); err != nil {
		return err
	}
	e.forget(ctx, image)
	return nil
}

// forget removes an image that came by a Service, unless the service's container has it. One that another container uses
// stays, too.
func (e *engine) forget(ctx context.Context, image string) {
	if strings.HasPrefix(image, imageName(e.s.Name, "")) && image != e.imageOf(ctx, e.s.Name) {
		_, _ = e.ImageRemove(ctx, image, client.ImageRemoveOptions{}) // once more after the next update of the same version
	}
}

// imageOf returns the name of a container's image; "" where it cannot be told.
func (e *engine) imageOf(ctx context.Context, name string) string {
	if c, err := e.inspect(ctx, name); err == nil && c != nil && c.Config != nil {
		return c.Config.Image
	}
	return ""
}

const (
	healthTime  = 2 * time.Minute
	healthStays = 10 * time.Second
	healthPause = 250 * time.Millisecond
)

// What wait may wait for, in the words of its errors.
const (
	theNew = "the new container"
	theOld = "the old container"
)

// wait waits until the container with the service's name is healthy, or has run for long enough.
func (e *engine) wait(ctx context.Context, which string) error {
	within := orDefault(e.s.Within, healthTime)
	limit := time.Now().Add(within)
	enough := time.Now().Add(orDefault(e.s.Stays, healthStays))
	restarts := 0 // that do not count: those of its former life
	for first := true; ; first = false {
		c, err := e.inspect(ctx, e.s.Name)
		if err != nil {
			return err
		}
		if first && c != nil && which == theOld {
			restarts = c.RestartCount
		}
		done, err := well(c, restarts, time.Now().After(enough))
		if err != nil {
			return fmt.Errorf("%s %w", which, err)
		}
		if done {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("container %s is not healthy within %v", e.s.Name, within)
		}
		if err := pause(ctx, healthPause); err != nil {
			return err
		}
	}
}

// pause waits, and returns an error when ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// well reports whether the container has proved itself, or why it has failed.
func well(c *container.InspectResponse, restarts int, ranEnough bool) (done bool, err error) {
	if c == nil || c.State == nil {
		return false, errors.New("is gone")
	}
	state := c.State
	switch {
	case !state.Running || state.Restarting || c.RestartCount > restarts:
		return false, fmt.Errorf("ended with status %d %s", state.ExitCode, state.Error)
	case state.Health == nil || state.Health.Status == "" || state.Health.Status == container.NoHealthcheck:
		return ranEnough, nil
	case state.Health.Status == container.Unhealthy:
		return false, errors.New("is unhealthy by its own health check")
	default:
		return state.Health.Status == container.Healthy, nil
	}
}
