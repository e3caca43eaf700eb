package container

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
)

// manyNetworks is the first API version that takes a container's networks all at once.
const manyNetworks = "1.44"

// create creates a container. Older engines get the networks beyond the first one by one.
func (e *engine) create(ctx context.Context, options client.ContainerCreateOptions) error {
	if err := e.dropDefaults(ctx, options.HostConfig); err != nil {
		return err
	}
	var more []string
	all := options.NetworkingConfig
	if _, err := e.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return err
	}
	if all != nil && len(all.EndpointsConfig) > 1 && versions.LessThan(e.ClientVersion(), manyNetworks) {
		more = slices.Sorted(maps.Keys(all.EndpointsConfig))
		first := more[0]
		if mode := string(options.HostConfig.NetworkMode); all.EndpointsConfig[mode] != nil {
			first = mode
		}
		more = slices.DeleteFunc(more, func(name string) bool { return name == first })
		options.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{first: all.EndpointsConfig[first]}}
	}
	if _, err := e.ContainerCreate(ctx, options); err != nil {
		return err
	}
	for _, name := range more {
		_, err := e.NetworkConnect(ctx, name, client.NetworkConnectOptions{Container: options.Name, EndpointConfig: all.EndpointsConfig[name]})
		if err != nil {
			return fmt.Errorf("connect it to network %s: %w", name, err)
		}
	}
	return nil
}

// dropDefaults leaves out what podman tells of every container and takes of none: a swappiness of 0, where its runtime is crun.
func (e *engine) dropDefaults(ctx context.Context, host *container.HostConfig) error {
	if host.MemorySwappiness == nil || *host.MemorySwappiness > 0 {
		return nil
	}
	v, err := e.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return err
	}
	for _, c := range v.Components {
		if c.Name == "Podman Engine" {
			host.MemorySwappiness = nil
		}
	}
	return nil
}

// shared refuses a container that shares its network with others in a way that the update would break.
func (e *engine) shared(ctx context.Context, now *container.InspectResponse) error {
	if mode := now.HostConfig.NetworkMode; mode.IsContainer() {
		other, err := e.inspect(ctx, mode.ConnectedContainer())
		if err != nil {
			return err
		}
		if other == nil || !running(other) {
			return fmt.Errorf("it uses the network of container %s, which does not run (any more): recreate it with one that does", mode.ConnectedContainer())
		}
	}
	list, err := e.ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return err
	}
	for _, c := range list.Items {
		if to := container.NetworkMode(c.HostConfig.NetworkMode).ConnectedContainer(); to == now.ID || to == e.s.Name {
			return fmt.Errorf("container %s uses its network, and would lose it: give both a network of their own, or update both by apply.Command",
				c.ID[:min(12, len(c.ID))])
		}
	}
	return nil
}
