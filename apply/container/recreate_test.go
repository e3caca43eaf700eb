package container_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-units"
	v1 "github.com/moby/docker-image-spec/specs-go/v1"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/apply/container"
)

// layout makes an image without files.
func layout(t *testing.T, config v1.DockerOCIImageConfig) image {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755))
	blob := func(v any) map[string]any {
		content, err := json.Marshal(v)
		must(t, err)
		sum := sha256.Sum256(content)
		name := hex.EncodeToString(sum[:])
		must(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", name), content, 0o644))
		return map[string]any{"digest": "sha256:" + name, "size": len(content)}
	}
	c := blob(map[string]any{"architecture": "amd64", "os": "linux", "config": config})
	m := blob(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": c})
	return image{dir, m["digest"].(string)}
}

func imageOf(version string) v1.DockerOCIImageConfig {
	return v1.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{
			User: "user" + version, WorkingDir: "/" + version, StopSignal: "SIGINT",
			Env:        []string{"PATH=/bin:/" + version, "VERSION=" + version, "LEVEL=info"},
			Entrypoint: []string{"/entry" + version}, Cmd: []string{"serve", version},
			Labels:       map[string]string{"image": version, "removed" + version: "x"},
			ExposedPorts: map[string]struct{}{"80" + version + "/tcp": {}},
			Volumes:      map[string]struct{}{"/data": {}},
		},
		DockerOCIImageConfigExt: v1.DockerOCIImageConfigExt{
			Healthcheck: &v1.HealthcheckConfig{Test: []string{"CMD", "/health" + version}, Interval: time.Second, Retries: 3},
		},
	}
}

// first starts a container on the fake's image of version 1, as its user did.
func (f *fakeEngine) first(asked fakeCreate) *fakeContainer {
	f.mu.Lock() // for children, too, whose requests come by ways that the race detector does not see
	defer f.mu.Unlock()
	f.images["registry.example/web:1"] = &fakeImage{"sha256:1", imageOf("1")}
	if asked.Config == nil {
		asked.Config = &api.Config{}
	}
	if asked.HostConfig == nil {
		asked.HostConfig = &api.HostConfig{NetworkMode: "bridge"}
	}
	if asked.NetworkingConfig == nil && asked.HostConfig.NetworkMode.IsBridge() {
		asked.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"bridge": {}}}
	}
	asked.Image = "registry.example/web:1"
	c := f.add("web", asked, f.images[asked.Image])
	c.State.Running = true
	f.lowest = 1
	return c
}

func (f *fakeEngine) service(t *testing.T) container.Service {
	return container.Hasty(container.Service{Name: "web", Client: f.client(t), Stays: time.Millisecond, Within: 10 * time.Second, Stop: time.Second})
}

// heals lets containers get healthy once they were looked at.
func heals(c *fakeContainer) {
	if c.State.Health != nil {
		c.State.Health = &api.Health{Status: api.Healthy}
	}
}

// What a container becomes is what its user would get from the same command with the new image.
func TestService_theConfigurationIsTheUsersOwn(t *testing.T) {
	networks := func(names ...string) *network.NetworkingConfig {
		c := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
		for i, name := range names {
			c.EndpointsConfig[name] = &network.EndpointSettings{
				Aliases:    []string{"db", "alias-" + name},
				IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.AddrFrom4([4]byte{172, 20, byte(i), 9})},
				DriverOpts: map[string]string{"opt": name},
			}
		}
		return c
	}
	yes, grace := true, 7
	all := &api.HostConfig{
		NetworkMode: "backend", Binds: []string{"/srv/web:/srv:ro", "named:/named/"}, ContainerIDFile: "",
		LogConfig:     api.LogConfig{Type: "journald", Config: map[string]string{"tag": "web"}},
		PortBindings:  network.PortMap{network.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8080"}}},
		RestartPolicy: api.RestartPolicy{Name: api.RestartPolicyOnFailure, MaximumRetryCount: 4},
		CapAdd:        []string{"CAP_NET_ADMIN"}, CapDrop: []string{"ALL"}, DNS: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		ExtraHosts: []string{"db:192.0.2.2"}, GroupAdd: []string{"audio"}, PidMode: "host", SecurityOpt: []string{"no-new-privileges"},
		ReadonlyRootfs: true, Tmpfs: map[string]string{"/tmp": "size=1m"}, Sysctls: map[string]string{"net.core.somaxconn": "99"}, Init: &yes, ShmSize: 1 << 20,
		Resources: api.Resources{
			Memory: 1 << 28, NanoCPUs: 5e8, Devices: []api.DeviceMapping{{PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm"}},
			Ulimits: []*units.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}},
		},
		Mounts: []mount.Mount{{Type: mount.TypeBind, Source: "/etc/web", Target: "/etc/web", ReadOnly: true}, {Type: mount.TypeVolume, Target: "/anonymous"}},
	}
	for _, tc := range []struct {
		name  string
		asked fakeCreate
	}{
		{"nothing of its own", fakeCreate{}},
		{"all that a host can give", fakeCreate{HostConfig: all, NetworkingConfig: networks("backend")}},
		{"environment", fakeCreate{Config: &api.Config{Env: []string{"LEVEL=debug", "OWN=1", "EMPTY="}}}},
		{"command", fakeCreate{Config: &api.Config{Cmd: []string{"serve", "--own"}}}},
		{"entrypoint", fakeCreate{Config: &api.Config{Entrypoint: []string{"/own"}}}},
		{"entrypoint and the image's command", fakeCreate{Config: &api.Config{Entrypoint: []string{"/own"}, Cmd: []string{"serve", "1"}}}},
		{"no entrypoint", fakeCreate{Config: &api.Config{Entrypoint: []string{""}, Cmd: []string{"/bin/own"}}}},
		{"labels", fakeCreate{Config: &api.Config{Labels: map[string]string{"own": "1", "enabled": ""}}}},
		{"user, folder, signal", fakeCreate{Config: &api.Config{User: "65534", WorkingDir: "/own", StopSignal: "SIGHUP", StopTimeout: &grace, Tty: true, OpenStdin: true}}},
		{"host name", fakeCreate{Config: &api.Config{Hostname: "db", Domainname: "example.com"}}},
		{"health check", fakeCreate{Config: &api.Config{Healthcheck: &api.HealthConfig{Test: []string{"CMD", "/own"}, Retries: 9}}}},
		{"no health check", fakeCreate{Config: &api.Config{Healthcheck: &api.HealthConfig{Test: []string{"NONE"}}}}},
		{"patience of the health check", fakeCreate{Config: &api.Config{Healthcheck: &api.HealthConfig{Interval: time.Minute}}}},
		{"ports and volumes", fakeCreate{Config: &api.Config{
			ExposedPorts: network.PortSet{network.MustParsePort("99/udp"): {}}, Volumes: map[string]struct{}{"/own": {}},
		}}},
		{"several networks", fakeCreate{HostConfig: &api.HostConfig{NetworkMode: "backend"}, NetworkingConfig: networks("admin", "backend", "front")}},
		{"default network", fakeCreate{NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"bridge": {}}}}},
		{"hardware address", fakeCreate{HostConfig: &api.HostConfig{NetworkMode: "lan"}, NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			"lan": {MacAddress: network.HardwareAddr{2, 0x42, 1, 2, 3, 4}},
		}}}},
		{"network of the host", fakeCreate{HostConfig: &api.HostConfig{NetworkMode: "host"}}},
	} {
		for _, version := range []string{"1.43", "1.44"} {
			t.Run(tc.name+" "+version, func(t *testing.T) {
				f := newFake(t, version)
				f.looked = heals
				old := f.first(tc.asked)
				must(t, f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2")))
				now := f.find("web")
				if len(f.containers) != 1 || now == nil || now == old || !now.State.Running {
					t.Fatalf("containers %+v", f.containers)
				}
				asked := old.asked
				f.images["again"] = &fakeImage{"sha256:2", imageOf("2")}
				wanted := f.add("again", asked, f.images["again"])
				same(t, old, now, wanted)
			})
		}
	}
}

// same compares a container that was updated with one that its user made again, but for what is each one's own.
func same(t *testing.T, old, now, wanted *fakeContainer) {
	t.Helper()
	a, b := *now.Config, *wanted.Config
	delete(a.Labels, "omahaclient.digest")
	for _, c := range []*api.Config{&a, &b} {
		c.Image = ""
		slices.Sort(c.Env)
	}
	if b.Hostname == wanted.ID[:12] {
		b.Hostname = now.ID[:12]
	}
	equal(t, "configuration", a, b)
	for _, m := range old.Mounts {
		if !slices.ContainsFunc(now.Mounts, func(n api.MountPoint) bool { return n.Name == m.Name && n.Destination == m.Destination }) {
			t.Errorf("volume %s at %s is lost: %+v", m.Name, m.Destination, now.Mounts)
		}
	}
	equal(t, "number of mounts", len(now.Mounts), len(old.Mounts))
	h, g := *now.HostConfig, *wanted.HostConfig
	h.Binds = h.Binds[:len(g.Binds)] // anonymous volumes have names now
	if len(g.Binds) == 0 {
		h.Binds = g.Binds
	}
	for i := range g.Mounts {
		if g.Mounts[i].Type == mount.TypeVolume && g.Mounts[i].Source == "" {
			h.Mounts[i].Source = ""
		}
	}
	if g.NetworkMode == "" {
		g.NetworkMode = h.NetworkMode
	}
	equal(t, "host configuration", h, g)
	var had, has map[string]*network.EndpointSettings
	if c := wanted.asked.NetworkingConfig; c != nil {
		had = c.EndpointsConfig
	}
	if c := now.asked.NetworkingConfig; c != nil {
		has = c.EndpointsConfig
	}
	equal(t, "networks", has, had)
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	a, err := json.MarshalIndent(got, "", " ")
	must(t, err)
	b, err := json.MarshalIndent(want, "", " ")
	must(t, err)
	var x, y any
	json.Unmarshal(a, &x)
	json.Unmarshal(b, &y)
	if reflect.DeepEqual(x, y) {
		return
	}
	wanted := strings.Split(string(b), "\n")
	for line := range strings.SplitSeq(string(a), "\n") {
		if !slices.Contains(wanted, line) {
			t.Errorf("%s: has %s", what, line)
		}
	}
	t.Errorf("%s:\n%s\nwant\n%s", what, a, b)
}

func TestService_waitsForHealth(t *testing.T) {
	broken := errors.New("the probe says no")
	for _, tc := range []struct {
		name   string
		states []api.State // of the new container, look by look
		old    api.State   // of the old one when it is back
		probe  error
		text   string // of the error; "" for none
		more   string
	}{
		{"gets healthy", []api.State{health(api.Starting), health(api.Starting), health(api.Healthy)}, health(api.Healthy), nil, "", ""},
		{"gets unhealthy", []api.State{health(api.Starting), health(api.Unhealthy)}, health(api.Healthy), nil, "the new container is unhealthy", ""},
		{"ends", []api.State{health(api.Starting), {ExitCode: 3, Status: "exited"}}, health(api.Healthy), nil, "ended with status 3", ""},
		{"stays without a check", []api.State{{Running: true}, {Running: true}}, health(api.Healthy), nil, "", ""},
		{"is restarted", []api.State{{Running: true, Restarting: true}}, health(api.Healthy), nil, "the new container ended", ""},
		{"probed", []api.State{health(api.Healthy)}, health(api.Healthy), broken, "the probe says no", ""},
		{"and the old one neither", []api.State{health(api.Unhealthy)}, health(api.Unhealthy), nil, "the new container is unhealthy", "the old container is unhealthy"},
		{"and the old one ends", []api.State{health(api.Unhealthy)}, api.State{ExitCode: 4, Status: "exited"}, nil, "the new container is unhealthy", "the old container ended with status 4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t, "1.44")
			old, looks := f.first(fakeCreate{}), 0
			stopped := false
			f.looked = func(c *fakeContainer) {
				switch {
				case c == old && stopped && c.State.Running:
					c.State = &tc.old
				case c == old:
					stopped = !c.State.Running
				case c.Name == "/web" && c.State.Status != "created":
					c.State = &tc.states[min(looks, len(tc.states)-1)]
					looks++
				}
			}
			s := f.service(t)
			s.Probe = apply.ProbeFunc(func(context.Context) error { return tc.probe })
			err := s.Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
			if tc.text == "" {
				must(t, err)
				if f.find("web") == old {
					t.Error("the old one is still there")
				}
				return
			}
			if code(err) != 44 || !strings.Contains(fmt.Sprint(err), tc.text) || !strings.Contains(fmt.Sprint(err), tc.more) {
				t.Errorf("error %v, code %d; want 44, %q and %q", err, code(err), tc.text, tc.more)
			}
			if len(f.containers) != 1 || f.find("web") != old {
				t.Errorf("containers %v; want the old one alone", f.containers)
			}
		})
	}
}

func health(status api.HealthStatus) api.State {
	return api.State{Running: true, Health: &api.Health{Status: status}}
}

// Whatever call the engine refuses, the old container runs in the end, or the new one where it had proved itself.
func TestService_whateverTheEngineRefuses(t *testing.T) {
	f := newFake(t, "1.44")
	f.looked = heals
	f.first(fakeCreate{})
	must(t, f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2")))
	calls := slices.Clone(f.calls)
	if i := slices.Index(calls, "POST /containers/#1/stop"); calls[i+1] != "POST /containers/#2/start" {
		t.Errorf("between stop and start: %q", calls)
	}
	for n, call := range calls {
		t.Run(fmt.Sprint(n, " ", call), func(t *testing.T) {
			f := newFake(t, "1.44")
			f.looked = heals
			old := f.first(fakeCreate{})
			seen := 0
			f.fault = func(string) (int, string) {
				if seen++; seen-1 == n {
					return 500, "no space left on device"
				}
				return 0, ""
			}
			err := f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
			now := f.find("web")
			if now == nil || !now.State.Running || f.running() != 1 {
				t.Fatalf("%v; containers %+v", err, f.containers)
			}
			switch {
			case err == nil && now == old:
				t.Error("no error, and no update")
			case err != nil && now != old:
				t.Errorf("the update failed, and stays: %v", err)
			case err != nil && (n <= slices.Index(calls, "POST /containers/#2/rename web")) != (code(err) == 5):
				t.Errorf("code %d: %v", code(err), err)
			case err != nil && !strings.Contains(err.Error(), "no space left"):
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestService_refusesWhatItWouldBreak(t *testing.T) {
	for _, tc := range []struct {
		name  string
		asked *api.HostConfig
		other *api.HostConfig // of a second, running container
		text  string
	}{
		{"removed as it stops", &api.HostConfig{AutoRemove: true}, nil, "--rm"},
		{"processes of a container that is gone", &api.HostConfig{PidMode: "container:gone"}, nil, "does not run"},
		{"shared memory of a container that is gone", &api.HostConfig{IpcMode: "container:gone"}, nil, "does not run"},
		{"processes that another container uses", nil, &api.HostConfig{PidMode: "container:web"}, "would lose it"},
		{"shared memory that another container uses", nil, &api.HostConfig{IpcMode: "container:db0000000000"}, "would lose it"},
		{"network of a container that is gone", &api.HostConfig{NetworkMode: "container:gone"}, nil, "does not run"},
		{"network that another container uses", nil, &api.HostConfig{NetworkMode: "container:web"}, "would lose it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t, "1.44")
			old := f.first(fakeCreate{HostConfig: tc.asked})
			if tc.other != nil {
				f.add("other", fakeCreate{Config: &api.Config{}, HostConfig: tc.other}, f.images["registry.example/web:1"]).State.Running = true
			}
			err := f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
			if code(err) != 5 || !strings.Contains(fmt.Sprint(err), tc.text) {
				t.Errorf("error %v, code %d", err, code(err))
			}
			if f.find("web") != old || !old.State.Running || f.lowest == 0 {
				t.Errorf("container %+v; calls %q", old, f.calls)
			}
		})
	}
}

func TestService_refusesWhatItWouldNotLeaveAsItWas(t *testing.T) {
	for _, tc := range []struct {
		name  string
		state api.State
		text  string
	}{
		{"stopped by its owner", api.State{Status: "exited"}, "start it first"},
		{"never started", api.State{Status: "created"}, "start it first"},
		{"paused", api.State{Status: "paused", Running: true, Paused: true}, "unpause"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t, "1.44")
			old := f.first(fakeCreate{})
			old.State = &tc.state
			err := f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
			if code(err) != 5 || !strings.Contains(fmt.Sprint(err), tc.text) {
				t.Errorf("error %v, code %d", err, code(err))
			}
			if len(f.containers) != 1 || f.find("web") != old || *old.State != tc.state {
				t.Errorf("there are %q", f.state())
			}
		})
	}
}

// A container's id leads to it as its name does, but is none.
func TestService_refusesAnID(t *testing.T) {
	f := newFake(t, "1.44")
	old := f.first(fakeCreate{})
	s := f.service(t)
	s.Name = old.ID
	err := s.Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
	if code(err) != 5 || !strings.Contains(fmt.Sprint(err), "the id of container web") {
		t.Errorf("error %v, code %d", err, code(err))
	}
	f.alone(t, old)
}
