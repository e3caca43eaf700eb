package container

import (
	"context"
	"errors"
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

// create creates a container and returns its id. Older engines get the networks beyond the first one by one.
func (e *engine) create(ctx context.Context, options client.ContainerCreateOptions) (id string, err error) {
	if err := e.dropDefaults(ctx, options.HostConfig); err != nil {
		return "", err
	}
	err = limited(ctx, e.call, func(ctx context.Context) error {
		_, err := e.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
		return err
	})
	if err != nil {
		return "", err
	}
	more := e.later(&options)
	err = limited(ctx, e.times.create, func(ctx context.Context) error {
		r, err := e.ContainerCreate(ctx, options)
		id = r.ID
		return err
	})
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(more)) {
		err := limited(ctx, e.change, func(ctx context.Context) error {
			_, err := e.NetworkConnect(ctx, name, client.NetworkConnectOptions{Container: id, EndpointConfig: more[name]})
			return err
		})
		if err != nil {
			return "", errors.Join(fmt.Errorf("connect it to network %s: %w", name, err), e.remove(ctx, id))
		}
	}
	return id, nil
}

// later takes those networks out of options that the engine does not take there, and returns them.
func (e *engine) later(options *client.ContainerCreateOptions) map[string]*network.EndpointSettings {
	if options.NetworkingConfig == nil || !versions.LessThan(e.ClientVersion(), manyNetworks) {
		return nil
	}
	all := maps.Clone(options.NetworkingConfig.EndpointsConfig)
	if len(all) < 2 {
		return nil
	}
	first := slices.Min(slices.Collect(maps.Keys(all)))
	if mode := string(options.HostConfig.NetworkMode); all[mode] != nil {
		first = mode
	}
	options.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{first: all[first]}}
	delete(all, first)
	return all
}

// dropDefaults leaves out what podman tells of every container and takes of none: a swappiness of 0, where its runtime is crun.
func (e *engine) dropDefaults(ctx context.Context, host *container.HostConfig) error {
	if host.MemorySwappiness == nil || *host.MemorySwappiness > 0 {
		return nil
	}
	var v client.ServerVersionResult
	err := limited(ctx, e.call, func(ctx context.Context) (err error) {
		v, err = e.ServerVersion(ctx, client.ServerVersionOptions{})
		return err
	})
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
