package container

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageDefaults is what a container has from its image alone.
type imageDefaults struct {
	ocispec.ImageConfig

	health bool // the image brings a health check
}

// imageConfig returns the defaults of an image; none, where it is gone: then the container keeps all that it has.
func (e *engine) imageConfig(ctx context.Context, image string) imageDefaults {
	r, err := e.ImageInspect(ctx, image)
	if err != nil || r.Config == nil {
		return imageDefaults{}
	}
	return imageDefaults{r.Config.ImageConfig, r.Config.Healthcheck != nil}
}

// recreated returns what creates a container like now on another image.
func recreated(now *container.InspectResponse, image imageDefaults) client.ContainerCreateOptions {
	host := *now.HostConfig
	host.Binds = append(slices.Clone(host.Binds), volumes(now)...)
	host.Ulimits = ulimits(host.Ulimits)
	return client.ContainerCreateOptions{
		Config:           config(now, image),
		HostConfig:       &host,
		NetworkingConfig: networks(now),
	}
}

// config returns the container's own configuration, without what its image gave it.
func config(now *container.InspectResponse, image imageDefaults) *container.Config {
	c := *now.Config
	if strings.HasPrefix(now.ID, c.Hostname) || host(now) {
		c.Hostname, c.Domainname = "", "" // made up by the engine
	}
	c.Env = slices.DeleteFunc(slices.Clone(c.Env), func(v string) bool { return slices.Contains(image.Env, v) })
	if slices.Equal(c.Cmd, image.Cmd) {
		c.Cmd = nil
	}
	if slices.Equal(c.Entrypoint, image.Entrypoint) {
		c.Entrypoint = nil
	} else if c.Cmd == nil && len(now.Config.Cmd) > 0 {
		c.Cmd = slices.Clone(now.Config.Cmd) // an entrypoint of its own takes no command of the image's
	}
	if c.WorkingDir == image.WorkingDir {
		c.WorkingDir = ""
	}
	if c.User == image.User {
		c.User = ""
	}
	if c.StopSignal == image.StopSignal {
		c.StopSignal = ""
	}
	if image.health {
		c.Healthcheck = nil
	}
	c.Labels = maps.Clone(c.Labels)
	maps.DeleteFunc(c.Labels, func(k, v string) bool { return image.Labels[k] == v })
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	maps.DeleteFunc(c.ExposedPorts, func(p network.Port, _ struct{}) bool { _, ok := image.ExposedPorts[p.String()]; return ok })
	c.Volumes = maps.Clone(c.Volumes)
	maps.DeleteFunc(c.Volumes, func(v string, _ struct{}) bool { _, ok := image.Volumes[v]; return ok })
	return &c
}

// ulimits are named as the engine wants them: podman tells RLIMIT_NOFILE, and takes nofile.
func ulimits(told []*container.Ulimit) []*container.Ulimit {
	var list []*container.Ulimit
	for _, u := range told {
		own := *u
		own.Name = strings.ToLower(strings.TrimPrefix(u.Name, "RLIMIT_"))
		list = append(list, &own)
	}
	return list
}

func host(c *container.InspectResponse) bool {
	return c.HostConfig.NetworkMode.IsHost() || c.HostConfig.NetworkMode.IsContainer() || c.HostConfig.UTSMode.IsHost()
}

// volumes names the anonymous volumes, so that the new container gets what is in them.
func volumes(now *container.InspectResponse) []string {
	known := map[string]bool{}
	for _, b := range now.HostConfig.Binds {
		if parts := strings.Split(b, ":"); len(parts) > 1 {
			known[parts[1]] = true
		}
	}
	for _, m := range now.HostConfig.Mounts {
		known[m.Target] = m.Type != mount.TypeVolume || m.Source != ""
	}
	var binds []string
	for _, m := range now.Mounts {
		if m.Type == mount.TypeVolume && m.Name != "" && !known[m.Destination] {
			binds = append(binds, m.Name+":"+m.Destination)
		}
	}
	return binds
}

// networks returns the networks with what was asked for there; what the engine gave out is left to it.
func networks(now *container.InspectResponse) *network.NetworkingConfig {
	mode := now.HostConfig.NetworkMode
	if now.NetworkSettings == nil || mode.IsHost() || mode.IsNone() || mode.IsContainer() {
		return nil
	}
	to := map[string]*network.EndpointSettings{}
	for name, n := range now.NetworkSettings.Networks {
		if n == nil || name == "host" || name == "none" {
			continue
		}
		own := func(alias string) bool { return strings.HasPrefix(now.ID, alias) }
		to[name] = &network.EndpointSettings{
			IPAMConfig: n.IPAMConfig.Copy(),
			Links:      slices.Clone(n.Links),
			Aliases:    slices.DeleteFunc(slices.Clone(n.Aliases), own),
			DriverOpts: maps.Clone(n.DriverOpts),
			GwPriority: n.GwPriority,
		}
	}
	return &network.NetworkingConfig{EndpointsConfig: to}
}
