package container_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/moby/docker-image-spec/specs-go/v1"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// fakeEngine speaks the part of Docker's API that Service uses, as the Docker Engine API v1.44 reference has it. What a
// container has from its image is merged as moby does it (daemon's merge of the configurations).
type fakeEngine struct {
	*httptest.Server
	version string // of the API

	mu         sync.Mutex // guards what follows
	containers []*fakeContainer
	images     map[string]*fakeImage // by the names in their layouts
	made       int
	calls      []string
	fault      func(call string) (status int, message string) // 0: none
	lowest     int                                            // number of containers that ran, at its lowest
	began      func(c *fakeContainer)                         // after a start; may change the state
	looked     func(c *fakeContainer)                         // before an inspection
	takes      time.Duration                                  // that a container needs to end
	ending     map[*fakeContainer]chan struct{}               // those that were asked to, closed when they have
	like       engineKind
}

// engineKind is whose rules an engine has where they differ.
type engineKind int

const (
	containerd  engineKind = iota // Docker with containerd's image store
	graphdriver                   // Docker with its own, which loads no layouts
	podmanLike
)

type fakeContainer struct {
	api.InspectResponse

	asked fakeCreate // its creation, as it came
}

type fakeCreate struct {
	*api.Config

	HostConfig       *api.HostConfig
	NetworkingConfig *network.NetworkingConfig
}

type fakeImage struct {
	id     string
	config v1.DockerOCIImageConfig
}

func newFake(t *testing.T, version string) *fakeEngine {
	f := &fakeEngine{version: version, images: map[string]*fakeImage{}, ending: map[*fakeContainer]chan struct{}{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeEngine) client(t *testing.T, opts ...client.Opt) *client.Client {
	t.Helper()
	c, err := client.New(append([]client.Opt{client.WithHost("tcp://" + f.Listener.Addr().String())}, opts...)...)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

var versioned = regexp.MustCompile(`^/v[0-9.]+`)

var identified = regexp.MustCompile(`/containers/db0*([0-9a-f]+)\b`)

// callOf names a request: its method, its path and the name that it gives. Containers that it names by their ids are #1 for
// the first that there was, and so on.
func callOf(r *http.Request) string {
	call := r.Method + " " + identified.ReplaceAllString(versioned.ReplaceAllString(r.URL.Path, ""), "/containers/#$1")
	if name := r.URL.Query().Get("name"); name != "" {
		call += " " + name
	}
	return call
}

func (f *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", f.version)
	call := callOf(r)
	if strings.HasPrefix(call, "POST /images/load") { // slow: before the lock
		f.load(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if call != "HEAD /_ping" && call != "GET /_ping" {
		f.calls = append(f.calls, call)
		if f.refused(w, call) {
			return
		}
	}
	f.route(w, r)
	f.lowest = min(f.lowest, f.running())
}

// end ends a container in its time, whether or not somebody waits for it, and returns a channel for that. It takes what
// another request began to its end.
func (f *fakeEngine) end(c *fakeContainer) chan struct{} {
	if ended, ok := f.ending[c]; ok {
		return ended
	}
	ended := make(chan struct{})
	if !c.State.Running || f.takes == 0 {
		c.State = &api.State{Status: "exited"}
		close(ended)
		return ended
	}
	if f.like == podmanLike {
		c.State = &api.State{Status: "stopping"}
	}
	f.ending[c] = ended
	time.AfterFunc(f.takes, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		c.State = &api.State{Status: "exited", ExitCode: 137}
		delete(f.ending, c)
		f.lowest = min(f.lowest, f.running())
		close(ended)
	})
	return ended
}

// ends waits for the end of a container; for its request's, if that comes before.
func (f *fakeEngine) ends(r *http.Request, c *fakeContainer) (ended bool) {
	end := f.end(c)
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-end:
		return true
	case <-r.Context().Done():
		return false
	}
}

// quiet waits until no container is about to end.
func (f *fakeEngine) quiet() {
	for {
		f.mu.Lock()
		var end chan struct{}
		for _, end = range f.ending {
			break
		}
		f.mu.Unlock()
		if end == nil {
			return
		}
		<-end
	}
}

func (f *fakeEngine) refused(w http.ResponseWriter, call string) bool {
	if f.fault == nil {
		return false
	}
	status, message := f.fault(call)
	if status != 0 {
		answer(w, status, map[string]string{"message": message})
	}
	return status != 0
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if v != nil {
		_ = json.NewEncoder(w).Encode(v) //nolint:errchkjson // of what the test knows
	}
}

func (f *fakeEngine) running() (n int) {
	for _, c := range f.containers {
		if c.State.Running {
			n++
		}
	}
	return n
}

func (f *fakeEngine) find(name string) *fakeContainer {
	for _, c := range f.containers {
		if c.Name == "/"+name || c.ID == name {
			return c
		}
	}
	return nil
}

func (f *fakeEngine) route(w http.ResponseWriter, r *http.Request) {
	path := versioned.ReplaceAllString(r.URL.Path, "")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "/_ping":
		answer(w, http.StatusOK, "OK")
	case path == "/version":
		answer(w, http.StatusOK, map[string]any{"ApiVersion": f.version, "Components": []map[string]string{{"Name": "Engine"}}})
	case path == "/containers/create":
		f.create(w, r)
	case path == "/containers/json":
		f.list(w)
	case parts[0] == "images":
		f.image(w, r, strings.TrimSuffix(strings.TrimPrefix(path, "/images/"), "/json"))
	case parts[0] == "networks":
		var body struct {
			Container      string
			EndpointConfig *network.EndpointSettings
		}
		json.NewDecoder(r.Body).Decode(&body)
		c := f.find(body.Container)
		c.asked.NetworkingConfig.EndpointsConfig[parts[1]] = body.EndpointConfig
		answer(w, http.StatusOK, nil)
	case parts[0] == "containers":
		c := f.find(parts[1])
		if c == nil {
			answer(w, http.StatusNotFound, map[string]string{"message": "No such container: " + parts[1]})
			return
		}
		f.container(w, r, c, append(parts, "")[2])
	default:
		answer(w, http.StatusNotFound, map[string]string{"message": "no such page: " + path})
	}
}

func (f *fakeEngine) container(w http.ResponseWriter, r *http.Request, c *fakeContainer, verb string) {
	switch {
	case verb == "json":
		if f.looked != nil {
			f.looked(c)
		}
		answer(w, http.StatusOK, c.InspectResponse)
	case verb == "rename":
		name := r.URL.Query().Get("name")
		if f.find(name) != nil {
			answer(w, http.StatusConflict, map[string]string{"message": "the name is in use"})
			return
		}
		c.Name = "/" + name
		answer(w, http.StatusNoContent, nil)
	case verb == "start" && c.State.Status == "stopping":
		answer(w, http.StatusInternalServerError, map[string]string{"message": "container state improper"})
	case verb == "start" && c.State.Running, verb == "stop" && !c.State.Running && c.State.Status != "stopping":
		answer(w, http.StatusNotModified, nil)
	case verb == "start":
		c.State = &api.State{Running: true, Status: "running"}
		if c.Config.Healthcheck != nil {
			c.State.Health = &api.Health{Status: api.Starting}
		}
		if f.began != nil {
			f.began(c)
		}
		answer(w, http.StatusNoContent, nil)
	case verb == "stop":
		if f.ends(r, c) {
			answer(w, http.StatusNoContent, nil)
		}
	case verb == "update" && f.like == podmanLike: // version 4
		answer(w, http.StatusNotFound, map[string]string{"message": "Not Found"})
	case verb == "update":
		var body struct{ RestartPolicy api.RestartPolicy }
		json.NewDecoder(r.Body).Decode(&body)
		c.HostConfig.RestartPolicy = body.RestartPolicy
		answer(w, http.StatusOK, map[string]any{})
	case r.Method == http.MethodDelete:
		f.remove(w, r, c)
	default:
		answer(w, http.StatusNotFound, nil)
	}
}

// remove removes a container once it has ended, also when its request has ended before.
func (f *fakeEngine) remove(w http.ResponseWriter, r *http.Request, c *fakeContainer) {
	ended := f.end(c)
	removed := make(chan struct{})
	go func() { // ends with the container
		defer close(removed)
		<-ended
		f.mu.Lock()
		defer f.mu.Unlock()
		f.forget(c)
	}()
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-removed:
		answer(w, http.StatusNoContent, nil)
	case <-r.Context().Done():
	}
}

// forget is what docker system prune does, too.
func (f *fakeEngine) forget(c *fakeContainer) {
	f.containers = slices.DeleteFunc(f.containers, func(other *fakeContainer) bool { return other == c })
}

func (f *fakeEngine) list(w http.ResponseWriter) {
	list := []map[string]any{}
	for _, c := range f.containers {
		if c.State.Running {
			list = append(list, map[string]any{"Id": c.ID, "HostConfig": map[string]any{"NetworkMode": c.HostConfig.NetworkMode}})
		}
	}
	answer(w, http.StatusOK, list)
}

func (f *fakeEngine) create(w http.ResponseWriter, r *http.Request) {
	var asked fakeCreate
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"message": err.Error()})
		return
	}
	name := r.URL.Query().Get("name")
	image := f.images[asked.Image]
	many := asked.NetworkingConfig != nil && len(asked.NetworkingConfig.EndpointsConfig) > 1
	switch {
	case f.find(name) != nil:
		answer(w, http.StatusConflict, map[string]string{"message": "the name is in use"})
	case image == nil:
		answer(w, http.StatusNotFound, map[string]string{"message": "no such image " + asked.Image})
	case many && f.version < "1.44":
		names := slices.Sorted(maps.Keys(asked.NetworkingConfig.EndpointsConfig))
		answer(w, http.StatusBadRequest, map[string]string{"message": "Container cannot be connected to network endpoints: " + strings.Join(names, ", ")})
	default:
		answer(w, http.StatusCreated, map[string]string{"Id": f.add(name, asked, image).ID})
	}
}

// add makes a container of what was asked for and of its image.
func (f *fakeEngine) add(name string, asked fakeCreate, image *fakeImage) *fakeContainer {
	f.made++
	config, hostConfig := *asked.Config, *asked.HostConfig
	c := &fakeContainer{asked: asked}
	c.ID = fmt.Sprintf("db%062x", f.made) // whose beginning may be a user's alias
	c.Name, c.Image, c.Config, c.HostConfig = "/"+name, image.id, &config, &hostConfig
	c.State = &api.State{Status: "created"}
	if config.Hostname == "" && !hostConfig.NetworkMode.IsContainer() {
		config.Hostname = c.ID[:12]
	}
	merge(&config, &image.config)
	for v := range config.Volumes {
		c.mount(fmt.Sprintf("volume%d%s", f.made, strings.ReplaceAll(v, "/", "-")), v)
	}
	for _, b := range hostConfig.Binds {
		if parts := strings.Split(b, ":"); !strings.HasPrefix(parts[0], "/") {
			c.mount(parts[0], parts[1])
		}
	}
	for i, m := range hostConfig.Mounts {
		if m.Type == mount.TypeVolume {
			name := m.Source
			if name == "" {
				name = fmt.Sprintf("mount%d-%d", f.made, i)
			}
			c.mount(name, m.Target)
		}
	}
	c.NetworkSettings = &api.NetworkSettings{Networks: map[string]*network.EndpointSettings{}}
	if asked.NetworkingConfig != nil {
		for name, e := range asked.NetworkingConfig.EndpointsConfig {
			told := e.Copy()
			told.NetworkID, told.EndpointID = "id of "+name, "endpoint"
			told.IPAddress = netip.AddrFrom4([4]byte{172, 20, 0, byte(f.made)})
			told.DNSNames = []string{strings.TrimPrefix(c.Name, "/"), c.ID[:12]}
			if told.MacAddress == nil {
				told.MacAddress = network.HardwareAddr{2, 0x42, 172, 20, 0, byte(f.made)}
			}
			if f.version < "1.44" && name != "bridge" {
				told.Aliases = append(slices.Clone(told.Aliases), c.ID[:12])
			}
			c.NetworkSettings.Networks[name] = told
		}
	}
	f.containers = append(f.containers, c)
	return c
}

func (c *fakeContainer) mount(name, at string) {
	at = strings.TrimSuffix(at, "/")
	for i, m := range c.Mounts {
		if m.Destination == at { // a volume of the image, that has got a name
			c.Mounts = slices.Delete(c.Mounts, i, i+1)
			break
		}
	}
	c.Mounts = append(c.Mounts, api.MountPoint{Type: mount.TypeVolume, Name: name, Destination: at, RW: true})
}
