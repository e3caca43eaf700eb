package container_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// podman starts a podman of this test's own and returns its address.
func podman(t *testing.T) (string, *client.Client) {
	t.Helper()
	dir, err := os.MkdirTemp("", "omahac") //nolint:usetesting // short, for a socket
	must(t, err)
	return podmanIn(t, dir)
}

// podmanIn is podman with all that is its own in a folder.
func podmanIn(t *testing.T, dir string) (string, *client.Client) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	global := []string{
		"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs",
	}
	address := "unix://" + filepath.Join(dir, "sock")
	var log bytes.Buffer
	cmd := exec.Command("podman", append(global, "system", "service", "--time", "0", address)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		out, err := exec.Command("podman", append(global, "rm", "--all", "--force", "--time", "0")...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("podman: %s", &log)
		}
	})
	c, err := client.New(client.WithHost(address))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	for limit := time.After(time.Minute); ; {
		if _, err := c.Ping(t.Context(), client.PingOptions{}); err == nil {
			return address, c
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("podman ended: %v: %s", err, &log)
		case <-limit:
			t.Fatalf("podman does not answer: %s", &log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ready reports whether there is a podman to test with. Where CI says that there must be, its absence is a failure.
func ready(t *testing.T) bool {
	t.Helper()
	for _, name := range []string{"podman", "runc"} {
		if _, err := exec.LookPath(name); err != nil || os.Geteuid() != 0 {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s: as root, apt-get install -y podman runc (%v)", name, err)
			}
			fmt.Fprintf(os.Stderr, "NOT TESTED, %s needs root, podman and runc (apt-get install -y podman runc)\n", t.Name())
			return false
		}
	}
	return true
}

// program builds what the images hold.
func program(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web")
	cmd := exec.Command("go", "build", "-o", path, "./testdata/web")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	content, err := os.ReadFile(path)
	must(t, err)
	return content
}

// build makes an image's layout.
func build(t *testing.T, program []byte, version string, env ...string) image {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755))
	blob := func(content []byte) map[string]any {
		sum := sha256.Sum256(content)
		name := hex.EncodeToString(sum[:])
		must(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", name), content, 0o644))
		return map[string]any{"digest": "sha256:" + name, "size": len(content)}
	}
	object := func(v any) map[string]any {
		content, err := json.Marshal(v)
		must(t, err)
		return blob(content)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	must(t, w.WriteHeader(&tar.Header{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o755}))
	must(t, w.WriteHeader(&tar.Header{Name: "web", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))}))
	w.Write(program)
	must(t, w.Close())
	l := blob(layer.Bytes())
	l["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
	c := object(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Env": append([]string{"VERSION=" + version}, env...), "Entrypoint": []string{"/web"}, "Labels": map[string]string{"image": version}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{l["digest"]}},
	})
	c["mediaType"] = "application/vnd.oci.image.config.v1+json"
	m := object(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": c, "layers": []any{l}})
	m["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
	m["annotations"] = map[string]string{"org.opencontainers.image.ref.name": "localhost/web:" + version}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{m}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	return image{dir, m["digest"].(string)}
}

// first starts the container on its first image, as its user did.
func first(t *testing.T, c *client.Client, i image, version string) (data string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.AddFS(os.DirFS(i.layout)))
	must(t, w.Close())
	r, err := c.ImageLoad(t.Context(), &b)
	must(t, err)
	said, err := io.ReadAll(r)
	must(t, err)
	r.Close()
	data, err = os.MkdirTemp("", "data") //nolint:usetesting // short, for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(data) })
	must(t, os.WriteFile(filepath.Join(data, "kept"), []byte("kept"), 0o644))
	_, err = c.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name:   "web",
		Config: &api.Config{Image: "localhost/web:" + version, Env: []string{"OWN=mine"}, Labels: map[string]string{"owner": "me"}},
		HostConfig: &api.HostConfig{
			NetworkMode: "host", Binds: []string{data + ":/data"},
			Resources: api.Resources{Ulimits: []*units.Ulimit{{Name: "nofile", Soft: 1024, Hard: 1024}, {Name: "nproc", Soft: 1024, Hard: 1024}}},
		},
	})
	if err != nil {
		t.Fatalf("%v; the load said %s", err, said)
	}
	_, err = c.ContainerStart(t.Context(), "web", client.ContainerStartOptions{})
	must(t, err)
	must(t, answers(data, version).Probe(t.Context()))
	return data
}

func only(t *testing.T, c *client.Client) *api.InspectResponse {
	t.Helper()
	for _, name := range []string{"web-omahaclient-old", "web-omahaclient-new", "web-omahaclient-done"} {
		if _, err := c.ContainerInspect(t.Context(), name, client.ContainerInspectOptions{}); !errdefs.IsNotFound(err) {
			t.Errorf("container %s is left: %v", name, err)
		}
	}
	r, err := c.ContainerInspect(t.Context(), "web", client.ContainerInspectOptions{})
	must(t, err)
	if !r.Container.State.Running {
		t.Errorf("it does not run: %+v", r.Container.State)
	}
	return &r.Container
}
