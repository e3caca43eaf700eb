package container

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/fetcher"
)

// dockerManifest is what Docker's own image store, other than containerd's, looks for in place of an index: the manifest.json
// of Docker Image Specification v1.2.
const dockerManifest = "manifest.json"

type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// archive writes the layout as a tar file whose index has the one manifest that was verified, under name: as docker save
// writes it, for engines of all kinds.
func archive(w io.Writer, payload fetcher.Payload, name string) error {
	root, err := os.OpenRoot(payload.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	manifestName, err := blobName(digest.Digest(payload.Digest))
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	manifest, err := root.ReadFile(filepath.FromSlash(manifestName))
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	docker := dockerImage{RepoTags: []string{name}, Layers: []string{}}
	if docker.Config, err = blobName(m.Config.Digest); err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	for _, l := range m.Layers {
		layer, err := blobName(l.Digest)
		if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		docker.Layers = append(docker.Layers, layer)
	}
	t := tar.NewWriter(w)
	err = errors.Join(
		writeJSON(t, ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}),
		writeJSON(t, ocispec.ImageIndexFile, index(payload.Digest, len(manifest), m.MediaType, name)),
		writeJSON(t, dockerManifest, []dockerImage{docker}),
		writeFile(t, manifestName, manifest),
	)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, blob := range append([]string{docker.Config}, docker.Layers...) {
		if seen[blob] {
			continue
		}
		seen[blob] = true
		if err := copyFile(t, root, blob); err != nil {
			return fmt.Errorf("read %s: %w", blob, err)
		}
	}
	return t.Close()
}

// index returns an index with one manifest.
func index(of string, size int, mediaType, name string) ocispec.Index {
	if mediaType == "" {
		mediaType = ocispec.MediaTypeImageManifest
	}
	i := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{{
		MediaType: mediaType, Digest: digest.Digest(of), Size: int64(size),
		Annotations: map[string]string{ocispec.AnnotationRefName: name, "io.containerd.image.name": name},
	}}}
	i.SchemaVersion = 2
	return i
}

// blobName returns the name of a blob's file in a layout, with slashes.
func blobName(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", err
	}
	return "blobs/" + strings.Replace(d.String(), ":", "/", 1), nil
}

func writeJSON(t *tar.Writer, name string, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(t, name, content)
}

func writeFile(t *tar.Writer, name string, content []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(content)), Mode: 0o644}); err != nil {
		return err
	}
	_, err := t.Write(content)
	return err
}

func copyFile(t *tar.Writer, root *os.Root, name string) error {
	f, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: info.Size(), Mode: 0o644}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
