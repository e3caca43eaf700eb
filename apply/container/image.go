package container

import (
	"archive/tar"
	"context"
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

// load gives the engine the image, and returns the name that it has there.
func (e *engine) load(ctx context.Context, payload fetcher.Payload, version string) (string, error) {
	name := imageName(e.s.Name, version)
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() { // ends with r
		err := archive(w, payload, name)
		w.CloseWithError(err)
		written <- err
	}()
	result, err := e.ImageLoad(ctx, r)
	if err == nil {
		err = loaded(result)
	}
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if werr := <-written; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		return "", werr
	}
	if err != nil {
		return "", err
	}
	if _, err := e.ImageInspect(ctx, name); err != nil {
		return "", fmt.Errorf("the engine has taken it, but does not know it: %w", err)
	}
	return name, nil
}

// loaded reads what the engine says about a load.
func loaded(result io.ReadCloser) error {
	defer result.Close()
	for d := json.NewDecoder(result); ; {
		var line struct {
			Error string `json:"error"`
		}
		switch err := d.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the engine's answer: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}

// imageName names the image of a container's version. Tags know less characters than versions.
func imageName(container, version string) string {
	tag := strings.Map(func(r rune) rune {
		if strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", r) {
			return r
		}
		return '_'
	}, version)
	return "localhost/omahaclient/" + strings.ToLower(strings.Trim(container, "._-")) + ":" + tag[:min(len(tag), 128)]
}

// archive writes the layout as a tar file whose index has the one manifest that was verified, under name.
func archive(w io.Writer, payload fetcher.Payload, name string) error {
	root, err := os.OpenRoot(payload.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	algorithm, hash, _ := strings.Cut(payload.Digest, ":")
	manifest, err := root.ReadFile(filepath.Join("blobs", algorithm, hash))
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	if m.MediaType == "" {
		m.MediaType = ocispec.MediaTypeImageManifest
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{{
		MediaType: m.MediaType, Digest: digest.Digest(payload.Digest), Size: int64(len(manifest)),
		Annotations: map[string]string{ocispec.AnnotationRefName: name, "io.containerd.image.name": name},
	}}}
	index.SchemaVersion = 2
	content, err := json.Marshal(index)
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	write := func(name string, content []byte) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(content)), Mode: 0o644}); err != nil {
			return err
		}
		_, err := t.Write(content)
		return err
	}
	if err := write(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`)); err != nil {
		return err
	}
	if err := write(ocispec.ImageIndexFile, content); err != nil {
		return err
	}
	if err := write("blobs/"+algorithm+"/"+hash, manifest); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if seen[d.Digest.String()] {
			continue
		}
		seen[d.Digest.String()] = true
		if err := copyBlob(t, root, d); err != nil {
			return fmt.Errorf("read blob %s: %w", d.Digest, err)
		}
	}
	return t.Close()
}

func copyBlob(t *tar.Writer, root *os.Root, d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return err
	}
	name := "blobs/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded()
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
