package container_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/moby/docker-image-spec/specs-go/v1"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

func (f *fakeEngine) image(w http.ResponseWriter, r *http.Request, name string) {
	i := f.images[name]
	for _, other := range f.images {
		if other.id == name {
			i = other
		}
	}
	switch {
	case i == nil:
		answer(w, http.StatusNotFound, map[string]string{"message": "no such image: " + name})
	case r.Method == http.MethodDelete:
		delete(f.images, name)
		answer(w, http.StatusOK, []any{})
	default:
		answer(w, http.StatusOK, map[string]any{"Id": i.id, "Config": i.config})
	}
}

// load reads a layout in a tar file.
func (f *fakeEngine) load(w http.ResponseWriter, r *http.Request) {
	blobs := map[string][]byte{}
	for archive := tar.NewReader(r.Body); ; {
		h, err := archive.Next()
		if err != nil {
			break
		}
		content, _ := io.ReadAll(archive)
		blobs[h.Name] = content
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, callOf(r))
	if f.refused(w, callOf(r)) {
		return
	}
	name, config, err := f.tagged(blobs)
	if err != nil {
		answer(w, http.StatusOK, map[string]string{"error": err.Error()})
		return
	}
	if _, err := reference.ParseNormalizedNamed(name); err != nil {
		answer(w, http.StatusOK, map[string]string{"error": err.Error()})
		return
	}
	var content struct{ Config v1.DockerOCIImageConfig }
	json.Unmarshal(blobs[config], &content)
	f.images[name] = &fakeImage{id: "sha256:" + path.Base(config), config: content.Config}
	answer(w, http.StatusOK, map[string]string{"stream": "Loaded image: " + name})
}

// tagged returns the name of an image and of its configuration's file, by what this kind of engine looks at.
func (f *fakeEngine) tagged(files map[string][]byte) (name, config string, err error) {
	if f.like == graphdriver {
		var list []struct {
			Config           string
			RepoTags, Layers []string
		}
		if err := json.Unmarshal(files["manifest.json"], &list); err != nil || len(list) != 1 || len(list[0].RepoTags) != 1 {
			return "", "", errors.New("invalid archive: does not contain a manifest.json")
		}
		for _, name := range append(list[0].Layers, list[0].Config) {
			if files[name] == nil {
				return "", "", fmt.Errorf("open %s: no such file or directory", name)
			}
		}
		return list[0].RepoTags[0], list[0].Config, nil
	}
	var list struct {
		Manifests []struct{ Digest, Annotations any }
	}
	if json.Unmarshal(files["index.json"], &list) != nil || len(list.Manifests) != 1 {
		return "", "", errors.New("no index")
	}
	var manifest struct{ Config struct{ Digest string } }
	json.Unmarshal(files["blobs/"+strings.Replace(fmt.Sprint(list.Manifests[0].Digest), ":", "/", 1)], &manifest)
	name = list.Manifests[0].Annotations.(map[string]any)["io.containerd.image.name"].(string)
	return name, "blobs/" + strings.Replace(manifest.Config.Digest, ":", "/", 1), nil
}

// merge adds an image's defaults to a container's configuration.
func merge(c *api.Config, image *v1.DockerOCIImageConfig) {
	for _, v := range image.Env {
		key, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(c.Env, func(own string) bool { return strings.HasPrefix(own, key+"=") }) {
			c.Env = append(c.Env, v)
		}
	}
	c.Labels = added(c.Labels, image.Labels)
	c.Volumes = added(c.Volumes, image.Volumes)
	ports := network.PortSet{}
	for p := range image.ExposedPorts {
		ports[network.MustParsePort(p)] = struct{}{}
	}
	c.ExposedPorts = added(c.ExposedPorts, ports)
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = image.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = image.Entrypoint
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil
	}
	for own, of := range map[*string]string{&c.User: image.User, &c.WorkingDir: image.WorkingDir, &c.StopSignal: image.StopSignal} {
		if *own == "" {
			*own = of
		}
	}
	mergeHealth(c, image.Healthcheck)
}

func mergeHealth(c *api.Config, image *api.HealthConfig) {
	switch {
	case image == nil:
	case c.Healthcheck == nil:
		c.Healthcheck = image
	default:
		own := *c.Healthcheck
		if len(own.Test) == 0 {
			own.Test = image.Test
		}
		if own.Interval == 0 {
			own.Interval = image.Interval
		}
		if own.Timeout == 0 {
			own.Timeout = image.Timeout
		}
		if own.Retries == 0 {
			own.Retries = image.Retries
		}
		c.Healthcheck = &own
	}
}

func added[M ~map[K]V, K comparable, V any](own, image M) M {
	all := M{}
	maps.Copy(all, image)
	maps.Copy(all, own)
	return all
}
