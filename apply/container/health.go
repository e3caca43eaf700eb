package container

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/nebraska/omahaclient/internal/wait"
	"github.com/nebraska/omahaclient/pool"
)

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

// prove starts the new container, and waits until it has proved itself.
func (u *update) prove(ctx context.Context) error {
	limit, cancel := u.within(ctx, u.next)
	defer cancel()
	if err := u.start(limit, u.next.ID); err != nil {
		return err
	}
	u.keepDown(limit)
	if err := u.waitFor(limit, theNew, u.next.ID); err != nil {
		return err
	}
	return u.probe(ctx)
}

// healthy waits until the container that has the service's name is.
func (u *update) healthy(ctx context.Context, which string) error {
	if err := u.wait(ctx, which); err != nil {
		return err
	}
	return u.probe(ctx)
}

// probe asks the user's probe, if there is one. Its panic is its verdict.
func (u *update) probe(ctx context.Context) (err error) {
	if u.s.Probe == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &pool.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return u.s.Probe.Probe(ctx)
}

// wait waits until the new or the old container is healthy under the service's name, or has run for long enough.
func (u *update) wait(ctx context.Context, which string) error {
	c := u.next
	if which == theOld {
		c = u.was
	}
	limit, cancel := u.within(ctx, c)
	defer cancel()
	return u.waitFor(limit, which, c.ID)
}

// within returns ctx for as long as a container has for getting healthy.
func (u *update) within(ctx context.Context, c *container.InspectResponse) (context.Context, context.CancelFunc) {
	within := orDefault(u.s.Within, max(healthTime, patience(c)))
	return context.WithTimeoutCause(ctx, within, fmt.Errorf("container %s is not healthy within %v", u.s.Name, within))
}

// patience returns the time after which a container's own health check has come to a verdict, and a try more; 0 for none.
// What is not set is the engine's default, as the Docker Engine API reference has it (HealthConfig).
func patience(c *container.InspectResponse) time.Duration {
	if c.Config == nil || c.Config.Healthcheck == nil {
		return 0
	}
	h := c.Config.Healthcheck
	if len(h.Test) == 0 || h.Test[0] == "NONE" {
		return 0
	}
	retries := h.Retries
	if retries <= 0 {
		retries = 3
	}
	return h.StartPeriod + time.Duration(retries+1)*(orDefault(h.Interval, 30*time.Second)+orDefault(h.Timeout, 30*time.Second))
}

// waitFor is wait with a limit. An engine that does not answer says nothing about the container.
func (u *update) waitFor(limit context.Context, which, id string) error {
	enough := time.Now().Add(orDefault(u.s.Stays, healthStays))
	restarts, known := 0, which == theNew // those of its former life do not count
	for {
		c, err := u.inspect(limit, u.s.Name)
		if err == nil {
			if c != nil && !known {
				restarts, known = c.RestartCount, true
			}
			var done bool
			if done, err = u.well(c, which, id, restarts, time.Now().After(enough)); done || err != nil {
				return err
			}
		}
		if ended := wait.For(limit, healthPause); ended != nil {
			if err != nil && !errors.Is(err, ended) {
				ended = fmt.Errorf("%w: %w", ended, err)
			}
			return ended
		}
	}
}

// well reports whether the container that has the service's name is the right one and has proved itself, or why it has failed.
func (u *update) well(c *container.InspectResponse, which, id string, restarts int, ranEnough bool) (done bool, err error) {
	switch {
	case c == nil || c.State == nil:
		return false, fmt.Errorf("%s is gone", which)
	case c.ID != id || which == theNew && label(c) != u.digest:
		return false, fmt.Errorf("%s is gone: %w", which, errForeign)
	}
	state := c.State
	switch {
	case !state.Running || state.Restarting || c.RestartCount > restarts:
		return false, fmt.Errorf("%s ended with status %d %s", which, state.ExitCode, state.Error)
	case state.Health == nil || state.Health.Status == "" || state.Health.Status == container.NoHealthcheck:
		return ranEnough, nil
	case state.Health.Status == container.Unhealthy:
		return false, fmt.Errorf("%s is unhealthy by its own health check", which)
	default:
		return state.Health.Status == container.Healthy, nil
	}
}
