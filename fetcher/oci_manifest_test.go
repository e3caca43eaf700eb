package fetcher_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
)

// entry is an entry of an index.
func entry(digest, platform string) string {
	if platform == "" {
		return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":7}`, digest)
	}
	p := strings.Split(platform+"//", "/")
	return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":7,"platform":{"os":%q,"architecture":%q,"variant":%q}}`, digest, p[0], p[1], p[2])
}

func index(entries ...string) string {
	return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` + strings.Join(entries, ",") + `]}`
}

func dig(i int) string { return fmt.Sprintf("sha256:%064x", i) }

func TestOCI_choosesThePlatform(t *testing.T) {
	for _, c := range []struct {
		name, machine string
		has           []string // platforms; the digest of each is its position
		want          int      // -1: none
	}{
		{"exact", "linux/amd64", []string{"linux/arm64", "linux/amd64"}, 1},
		{"another system", "linux/amd64", []string{"windows/amd64", "linux/amd64"}, 1},
		{"not there", "linux/amd64", []string{"linux/arm64", "linux/s390x"}, -1},
		{"arm v7", "linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm/v7"}, 2},
		{"arm v7 runs v6", "linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm64"}, 1},
		{"arm v6 does not run v7", "linux/arm/v6", []string{"linux/arm/v7"}, -1},
		{"arm is v7", "linux/arm/v7", []string{"linux/arm"}, 0},
		{"arm64 is v8", "linux/arm64", []string{"linux/arm/v7", "linux/arm64/v8"}, 1},
		{"aarch64", "linux/aarch64", []string{"linux/arm64"}, 0},
		{"arm64 does not run arm", "linux/arm64", []string{"linux/arm/v7"}, -1},
		{"amd64 does not run v3", "linux/amd64", []string{"linux/amd64/v3", "linux/amd64"}, 1},
		{"amd64 v3 prefers v3", "linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4"}, 2},
		{"amd64 v3 runs v2", "linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4"}, 1},
		{"first of two", "linux/amd64", []string{"linux/amd64", "linux/amd64"}, 0},
		{"attestations", "linux/amd64", []string{"unknown/unknown", "linux/amd64"}, 1},
		{"the only one, without a platform", "linux/amd64", []string{""}, 0},
		{"two without a platform", "linux/amd64", []string{"", ""}, -1},
		{"none at all", "linux/amd64", nil, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var entries []string
			for i, p := range c.has {
				entries = append(entries, entry(dig(i), p))
			}
			got, _, err := fetcher.CheckManifest([]byte(index(entries...)), c.machine)
			if c.want < 0 {
				if !errors.Is(err, fetcher.ErrBadImage) {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if err != nil || got != dig(c.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

func TestOCI_readsManifests(t *testing.T) {
	config := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":7}`, dig(1))
	layer := func(i int, mediaType string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7}`, mediaType, dig(i))
	}
	manifest := func(mediaType, layers string) string {
		return `{"schemaVersion":2,"mediaType":"` + mediaType + `","config":` + config + `,"layers":[` + layers + `]}`
	}
	const tar, zstd = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd"
	for _, c := range []struct {
		name, content string
		parts         int
		bad           error
	}{
		{name: "OCI", content: manifest(ociManifest, layer(2, tar)+","+layer(3, zstd)), parts: 3},
		{name: "Docker", content: manifest("application/vnd.docker.distribution.manifest.v2+json", layer(2, "application/vnd.docker.image.rootfs.diff.tar.gzip")), parts: 2},
		{name: "no media type", content: `{"schemaVersion":2,"config":` + config + `,"layers":[]}`, parts: 1},
		{name: "a layer twice", content: manifest(ociManifest, layer(2, tar)+","+layer(3, tar)+","+layer(2, tar)), parts: 3},
		{name: "no config", content: `{"schemaVersion":2,"mediaType":"` + ociManifest + `","artifactType":"application/x","layers":[` + layer(2, "text/plain") + `]}`, parts: 1},
		{name: "unknown fields", content: strings.Replace(manifest(ociManifest, ""), "{", `{"x":{"y":[1]},`, 1), parts: 1},

		{name: "no JSON", content: "<html>", bad: fetcher.ErrBadImage},
		{name: "another JSON", content: `[1]`, bad: fetcher.ErrBadImage},
		{name: "nothing", content: `{}`, bad: fetcher.ErrBadImage},
		{name: "schema 1", content: `{"schemaVersion":1,"name":"x","fsLayers":[]}`, bad: fetcher.ErrBadImage},
		{name: "both kinds", content: `{"schemaVersion":2,"manifests":[],"config":` + config + `,"layers":[]}`, bad: fetcher.ErrBadImage},
		{name: "a manifest with manifests", content: strings.Replace(manifest(ociManifest, ""), "{", `{"manifests":[],`, 1), bad: fetcher.ErrBadImage},
		{name: "an index with layers", content: strings.Replace(index(), "{", `{"layers":[],`, 1), bad: fetcher.ErrBadImage},
		{name: "another type", content: `{"mediaType":"application/json","manifests":[]}`, bad: fetcher.ErrBadImage},
		{name: "a foreign layer", content: manifest(ociManifest, layer(2, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")), bad: fetcher.ErrBadImage},
		{name: "Docker's foreign layer", content: manifest(ociManifest, layer(2, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")), bad: fetcher.ErrBadImage},
		{name: "another hash", content: strings.ReplaceAll(manifest(ociManifest, layer(2, tar)), dig(2), "sha512:"+hexA+hexA), bad: fetcher.ErrBadImage},
		{name: "a path as digest", content: strings.ReplaceAll(manifest(ociManifest, layer(2, tar)), dig(2), "../../x"), bad: fetcher.ErrBadImage},
		{name: "a negative size", content: strings.ReplaceAll(manifest(ociManifest, layer(2, tar)), `"size":7`, `"size":-7`), bad: fetcher.ErrSize},
		{name: "two sizes of one layer", content: manifest(ociManifest, layer(2, tar)+","+strings.ReplaceAll(layer(2, tar), `:7`, `:8`)), bad: fetcher.ErrBadImage},
		{name: "a size beyond any disk", content: strings.ReplaceAll(manifest(ociManifest, layer(2, tar)), `"size":7`, `"size":9223372036854775807`), bad: fetcher.ErrSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, parts, err := fetcher.CheckManifest([]byte(c.content), "linux/amd64")
			if c.bad != nil {
				if !errors.Is(err, c.bad) {
					t.Errorf("%d parts, %v", parts, err)
				}
			} else if err != nil || parts != c.parts {
				t.Errorf("%d parts, %v", parts, err)
			}
		})
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(index(entry(dig(1), "linux/amd64"), entry(dig(2), ""))), "linux/arm/v7")
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"`+dig(1)+`","size":7},"layers":[{"digest":"`+dig(2)+`","size":1}]}`), "")
	f.Fuzz(func(t *testing.T, content []byte, platform string) {
		chosen, _, err := fetcher.CheckManifest(content, platform)
		if err == nil && chosen != "" && (!strings.HasPrefix(chosen, "sha256:") || len(chosen) != 71 || !json.Valid(content)) {
			t.Errorf("chose %q", chosen)
		}
	})
}
