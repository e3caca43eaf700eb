//go:build linux

package e2e_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tarball is a layer with one file.
func tarball(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// realImage pushes an image that an engine can load: its layers are archives, its config names what they hold.
func (s *store) realImage(t *testing.T, manifestType, configType string, layers []ocispec.Descriptor, archives ...[]byte) ocispec.Descriptor {
	t.Helper()
	platform := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	config := ocispec.Image{Platform: platform, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, a := range archives {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(a))
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	d := s.PushManifest(repo, "", manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": s.PushBlob(repo, configType, raw), "layers": layers,
	})
	d.Platform = &platform
	return d
}

// What comes out loads: podman takes the layout, whatever kind of image it is, and every file is in there.
func TestPodman_takesTheLayout(t *testing.T) {
	podman, err := exec.LookPath("podman")
	if err != nil {
		t.Fatal("podman is needed here: apt-get install podman runc")
	}
	s := newStore(t)
	host := serve(t, s)
	one, two := tarball(t, "one", "first"), tarball(t, "two", "second")
	const (
		dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
		dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
		dockerConfig   = "application/vnd.docker.container.image.v1+json"
		dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	)
	gz := []ocispec.Descriptor{
		s.PushBlob(repo, ocispec.MediaTypeImageLayerGzip, gzipped(t, one)), s.PushBlob(repo, ocispec.MediaTypeImageLayerGzip, gzipped(t, two)),
	}
	zs := []ocispec.Descriptor{
		s.PushBlob(repo, ocispec.MediaTypeImageLayer, one), s.PushBlob(repo, ocispec.MediaTypeImageLayerZstd, zstandard(t, two)),
	}
	docker := []ocispec.Descriptor{s.PushBlob(repo, dockerLayer, gzipped(t, one)), s.PushBlob(repo, dockerLayer, gzipped(t, two))}
	arm := s.PushImage(repo, "linux/arm64", []byte("not an archive")).Manifest

	image := s.realImage(t, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, gz, one, two)
	schema2 := s.realImage(t, dockerManifest, dockerConfig, docker, one, two)
	for name, d := range map[string]ocispec.Descriptor{
		"OCI manifest":    image,
		"OCI index":       s.PushIndex(repo, arm, image),
		"zstd layer":      s.realImage(t, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, zs, one, two),
		"Docker manifest": schema2,
		"Docker list":     s.PushManifest(repo, "", dockerList, map[string]any{"schemaVersion": 2, "mediaType": dockerList, "manifests": []any{schema2, arm}}),
	} {
		t.Run(name, func(t *testing.T) {
			engine := newEngine(t, podman)
			job := newJob(t, host+"/"+repo+"@"+d.Digest.String())
			job.Dir, job.Shared = filepath.Join(engine.dir, "payload"), filepath.Join(engine.dir, "shared")
			p := pull(t, oci(), job)
			id := engine.run("pull", "--quiet", "oci:"+p.Path)
			container := engine.run("create", id, "/none")
			for file, want := range map[string]string{"one": "first", "two": "second"} {
				to := filepath.Join(engine.dir, file)
				engine.try("cp", container+":/"+file, to)
				if got, err := os.ReadFile(to); err != nil || string(got) != want {
					t.Errorf("%s holds %q, %v", file, got, err)
				}
			}
		})
	}
}

// engine is podman with a storage of its own.
type engine struct {
	t    *testing.T
	dir  string
	path string
	args []string
	env  []string
}

func newEngine(t *testing.T, path string) *engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "podman") //nolint:usetesting // t.TempDir is too long for its sockets, and has capitals, which its names cannot have
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return &engine{
		t: t, dir: dir, path: path,
		args: []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs", "--events-backend", "file", "--cgroup-manager", "cgroupfs"},
		env:  append(os.Environ(), "HOME="+dir, "TMPDIR="+dir),
	}
}

// run returns the last word of what a command says.
func (e *engine) run(args ...string) string {
	e.t.Helper()
	words := strings.Fields(e.try(args...))
	if len(words) == 0 {
		e.t.Fatalf("podman %q says nothing", args)
	}
	return words[len(words)-1]
}

func (e *engine) try(args ...string) string {
	e.t.Helper()
	cmd := exec.CommandContext(e.t.Context(), e.path, append(e.args, args...)...)
	cmd.Env = e.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		e.t.Fatalf("podman %q: %v: %s", args, err, stderr.String())
	}
	return string(out)
}
