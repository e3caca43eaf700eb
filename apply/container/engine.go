package container

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// engine is the container engine, and the names that an update uses there. Each call of it has a time limit: one that hangs
// must not keep a rollback from being tried.
type engine struct {
	*client.Client
	times

	s Service
}

const (
	oldSuffix   = "-omahaclient-old"   // of the old container, until the new one has proved itself
	newSuffix   = "-omahaclient-new"   // of the new one, before it takes the old one's place and after it was driven from there
	doneSuffix  = "-omahaclient-done"  // of the old one after that: nothing puts it back
	labelDigest = "omahaclient.digest" // of the image's manifest
)

func (e *engine) old() string  { return e.s.Name + oldSuffix }
func (e *engine) new() string  { return e.s.Name + newSuffix }
func (e *engine) done() string { return e.s.Name + doneSuffix }

// inspect returns a container; nil where there is none.
func (e *engine) inspect(ctx context.Context, id string) (c *container.InspectResponse, err error) {
	err = limited(ctx, e.call, func(ctx context.Context) error {
		r, err := e.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if err == nil {
			c = &r.Container
		}
		return err
	})
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	return c, err
}

// running reports whether a container runs. Those between two tries of their restart policy do, for an engine.
func running(c *container.InspectResponse) bool { return c.State != nil && c.State.Running }

// alive reports whether a container runs, or has yet to end: podman tells these apart.
func alive(c *container.InspectResponse) bool {
	return running(c) || c.State != nil && c.State.Status == "stopping"
}

// ours reports whether an update made the container.
func ours(c *container.InspectResponse) bool { return label(c) != "" }

func label(c *container.InspectResponse) string {
	if c.Config == nil {
		return ""
	}
	return c.Config.Labels[labelDigest]
}

func nameOf(c *container.InspectResponse) string { return strings.TrimPrefix(c.Name, "/") }

// start starts a container; one that runs stays as it is.
func (e *engine) start(ctx context.Context, id string) error {
	err := limited(ctx, e.change, func(ctx context.Context) error {
		_, err := e.ContainerStart(ctx, id, client.ContainerStartOptions{})
		return err
	})
	if err != nil && !errdefs.IsNotModified(err) {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	return nil
}

// stop stops a container and waits until it has ended, also where it was asked to end before.
func (e *engine) stop(ctx context.Context, c *container.InspectResponse) error {
	options := client.ContainerStopOptions{}
	if e.s.Stop > 0 {
		seconds := max(int(e.s.Stop/time.Second), 1)
		options.Timeout = &seconds
	}
	err := limited(ctx, e.grace(c)+e.change, func(ctx context.Context) error {
		_, err := e.ContainerStop(ctx, c.ID, options)
		return err
	})
	if err != nil && !errdefs.IsNotModified(err) {
		return fmt.Errorf("stop container %s: %w", c.ID, err)
	}
	return nil
}

// grace returns the time that a container has to end before the engine kills it.
func (e *engine) grace(c *container.InspectResponse) time.Duration {
	switch {
	case e.s.Stop > 0:
		return max(e.s.Stop, time.Second)
	case c == nil || c.Config == nil || c.Config.StopTimeout == nil:
		return stopTime
	case *c.Config.StopTimeout < 0:
		return stopForever
	default:
		return time.Duration(*c.Config.StopTimeout) * time.Second
	}
}

func (e *engine) rename(ctx context.Context, id, to string) error {
	err := limited(ctx, e.call, func(ctx context.Context) error {
		_, err := e.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: to})
		return err
	})
	if err != nil {
		return fmt.Errorf("rename container %s to %s: %w", id, to, err)
	}
	return nil
}

// restarts gives a container a restart policy.
func (e *engine) restarts(ctx context.Context, id string, policy container.RestartPolicy) error {
	err := limited(ctx, e.change, func(ctx context.Context) error {
		_, err := e.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{RestartPolicy: &policy})
		return err
	})
	if err != nil {
		return fmt.Errorf("change restart policy of container %s: %w", id, err)
	}
	return nil
}

// remove removes a container, if there is one. Its volumes stay.
func (e *engine) remove(ctx context.Context, id string) error {
	err := limited(ctx, e.change, func(ctx context.Context) error {
		_, err := e.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
		return err
	})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("remove container %s: %w", id, err)
}

// retire removes a container that the service does not need any more, if there is one, and its image.
func (e *engine) retire(ctx context.Context, id string) error {
	c, err := e.inspect(ctx, id)
	if err != nil || c == nil {
		return err
	}
	if err := e.remove(ctx, c.ID); err != nil {
		return err
	}
	e.forget(ctx, c)
	return nil
}

// forget removes the image that a container had, where it came by a Service, unless the service's container has it. One
// that another container uses stays, too.
func (e *engine) forget(ctx context.Context, had *container.InspectResponse) {
	if had.Config == nil || !strings.HasPrefix(had.Config.Image, repository(e.s.Name)+":") {
		return
	}
	now, err := e.inspect(ctx, e.s.Name)
	if err != nil || now != nil && now.Config != nil && now.Config.Image == had.Config.Image {
		return
	}
	_ = limited(ctx, e.change, func(ctx context.Context) error { // once more after the next update of the same version
		_, err := e.ImageRemove(ctx, had.Config.Image, client.ImageRemoveOptions{})
		return err
	})
}
