package container

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// of returns the containers whose network, processes or shared memory a container uses, by what it uses of them.
func of(host *container.HostConfig) map[string]string {
	all := map[string]string{
		"network": host.NetworkMode.ConnectedContainer(), "processes (--pid)": host.PidMode.Container(), "shared memory (--ipc)": host.IpcMode.Container(),
	}
	for what, other := range all {
		if other == "" {
			delete(all, what)
		}
	}
	return all
}

// shared refuses a container that shares with others what the update would take from it, or from them.
func (e *engine) shared(ctx context.Context, now *container.InspectResponse) error {
	for what, name := range of(now.HostConfig) {
		other, err := e.inspect(ctx, name)
		if err != nil {
			return err
		}
		if other == nil || !running(other) {
			return fmt.Errorf("it uses the %s of container %s, which does not run (any more): recreate it with one that does", what, name)
		}
	}
	var list client.ContainerListResult
	err := limited(ctx, e.call, func(ctx context.Context) (err error) {
		list, err = e.ContainerList(ctx, client.ContainerListOptions{})
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range list.Items {
		other, err := e.inspect(ctx, c.ID) // the list does not tell all
		if err != nil {
			return err
		}
		if other == nil || other.HostConfig == nil {
			continue
		}
		for what, to := range of(other.HostConfig) {
			if is(now, to) {
				return fmt.Errorf("container %s uses its %s, and would lose it: give both one of their own, or update both by apply.Command", nameOf(other), what)
			}
		}
	}
	return nil
}

// is reports whether a container is the one of this name or id, or of an id that begins so.
func is(c *container.InspectResponse, name string) bool {
	return slices.Contains([]string{c.ID, nameOf(c)}, name) || madeUp(c, name)
}

// madeUp reports whether a name is the one that an engine makes of a container's id.
func madeUp(c *container.InspectResponse, name string) bool {
	const short = 12
	return len(name) >= short && strings.HasPrefix(c.ID, name)
}
