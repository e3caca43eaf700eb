package container

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageDefaults is what a container has from its image alone.
type imageDefaults struct {
	ocispec.ImageConfig

	health *container.HealthConfig // nil: none
}

// imageConfig returns the defaults of an image; none, where it is gone: then the container keeps all that it has.
func (e *engine) imageConfig(ctx context.Context, image string) (imageDefaults, error) {
	r, err := e.image(ctx, image)
	if errdefs.IsNotFound(err) || err == nil && r.Config == nil {
		return imageDefaults{}, nil
	}
	if err != nil {
		return imageDefaults{}, err
	}
	return imageDefaults{r.Config.ImageConfig, r.Config.Healthcheck}, nil
}

func (e *engine) image(ctx context.Context, name string) (r client.ImageInspectResult, err error) {
	err = limited(ctx, e.call, func(ctx context.Context) error {
		r, err = e.ImageInspect(ctx, name)
		return err
	})
	return r, err
}

// recreated returns what creates a container like now on another image.
func recreated(now *container.InspectResponse, image imageDefaults) client.ContainerCreateOptions {
	host := *now.HostConfig
	host.Binds = append(slices.Clone(host.Binds), volumes(now)...)
	host.Mounts = mounts(now)
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
	if madeUp(now, c.Hostname) || host(now) {
		c.Hostname, c.Domainname = "", "" // made up by the engine
	}
	c.Env = slices.DeleteFunc(slices.Clone(c.Env), func(v string) bool {
		name, isHost := strings.CutPrefix(v, "HOSTNAME=") // podman tells what it made up
		return slices.Contains(image.Env, v) || isHost && madeUp(now, name)
	})
	if slices.Equal(c.Cmd, image.Cmd) {
		c.Cmd = nil
	}
	switch {
	case slices.Equal(c.Entrypoint, image.Entrypoint):
		c.Entrypoint = nil
	case len(c.Entrypoint) == 0:
		c.Entrypoint = []string{""} // taken away from the image, as --entrypoint "" does
	case c.Cmd == nil && len(now.Config.Cmd) > 0:
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
	c.Healthcheck = health(c.Healthcheck, image.health)
	c.Labels = maps.Clone(c.Labels)
	maps.DeleteFunc(c.Labels, func(k, v string) bool { of, ok := image.Labels[k]; return ok && of == v })
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	maps.DeleteFunc(c.ExposedPorts, func(p network.Port, _ struct{}) bool { _, ok := image.ExposedPorts[p.String()]; return ok })
	c.Volumes = maps.Clone(c.Volumes)
	maps.DeleteFunc(c.Volumes, func(v string, _ struct{}) bool { _, ok := image.Volumes[v]; return ok })
	return &c
}

// health returns the settings of a health check that are not its image's; nil for none.
func health(now, image *container.HealthConfig) *container.HealthConfig {
	if now == nil || image == nil {
		return now
	}
	own := *now
	if slices.Equal(own.Test, image.Test) {
		own.Test = nil
	}
	for setting, of := range map[*time.Duration]time.Duration{
		&own.Interval: image.Interval, &own.Timeout: image.Timeout, &own.StartPeriod: image.StartPeriod, &own.StartInterval: image.StartInterval,
	} {
		if *setting == of {
			*setting = 0
		}
	}
	if own.Retries == image.Retries {
		own.Retries = 0
	}
	if own.Test == nil && own.Interval+own.Timeout+own.StartPeriod+own.StartInterval == 0 && own.Retries == 0 {
		return nil
	}
	return &own
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
			known[path.Clean(parts[1])] = true
		}
	}
	for _, m := range now.HostConfig.Mounts {
		known[path.Clean(m.Target)] = true
	}
	var binds []string
	for _, m := range now.Mounts {
		if m.Type != mount.TypeVolume || m.Name == "" || known[path.Clean(m.Destination)] {
			continue
		}
		bind := m.Name + ":" + m.Destination
		if !m.RW {
			bind += ":ro"
		}
		binds = append(binds, bind)
	}
	return binds
}

// mounts returns the mounts, with the names of those volumes that were asked for without one.
func mounts(now *container.InspectResponse) []mount.Mount {
	list := slices.Clone(now.HostConfig.Mounts)
	for i, asked := range list {
		if asked.Type != mount.TypeVolume || asked.Source != "" {
			continue
		}
		for _, m := range now.Mounts {
			if m.Type == mount.TypeVolume && path.Clean(m.Destination) == path.Clean(asked.Target) {
				list[i].Source = m.Name
			}
		}
	}
	return list
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
		to[name] = &network.EndpointSettings{
			IPAMConfig: n.IPAMConfig.Copy(),
			Links:      slices.Clone(n.Links),
			Aliases:    given(now, n.Aliases),
			DriverOpts: maps.Clone(n.DriverOpts),
			GwPriority: n.GwPriority,
			MacAddress: mac(n),
		}
		if name == network.NetworkBridge || name == network.NetworkDefault || name == "podman" {
			to[name].Aliases = nil // which only networks of users' own may have
		}
	}
	return &network.NetworkingConfig{EndpointsConfig: to}
}

// mac returns a network's hardware address, which may have been asked for; none where the engine made it of the IP address
// (02:42 and that), which the new container may not get.
func mac(n *network.EndpointSettings) network.HardwareAddr {
	if ip := n.IPAddress.AsSlice(); len(ip) == 4 && slices.Equal(n.MacAddress, append([]byte{0x02, 0x42}, ip...)) {
		return nil
	}
	return slices.Clone(n.MacAddress)
}

// given returns those of a container's aliases that its engine did not make up.
func given(now *container.InspectResponse, aliases []string) (list []string) {
	for _, alias := range aliases {
		if !madeUp(now, alias) {
			list = append(list, alias)
		}
	}
	return list
}
