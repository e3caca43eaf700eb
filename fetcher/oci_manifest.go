package fetcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrBadImage: the image is what was announced, but it cannot be taken: it has no manifest for this platform, layers that are to
// be had from elsewhere, or manifests that contradict themselves.
var ErrBadImage = errors.New("unusable image")

// The media types of Docker's image manifest, version 2, schema 2, and of the schema before it.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1"
	dockerForeign  = "application/vnd.docker.image.rootfs.foreign."
	undistributed  = "application/vnd.oci.image.layer.nondistributable."
)

const (
	maxManifest = 4 << 20 // bytes; the OCI distribution specification 1.1, "Pushing Manifests", asks registries to take as much
	maxDepth    = 4       // of an index within an index
)

// acceptManifests is the Accept header for manifests.
func acceptManifests() string {
	return strings.Join([]string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerList, dockerManifest, "*/*;q=0.1"}, ", ")
}

// manifest is either kind of manifest, as far as a pull needs to know it.
type manifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Config        ocispec.Descriptor   `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
}

// isIndex tells an index (or Docker's list) from an image.
func (m *manifest) isIndex() bool {
	return m.MediaType == ocispec.MediaTypeImageIndex || m.MediaType == dockerList
}

// parseManifest reads a verified manifest. What it is, it says itself: the header that it came with is not covered by its digest.
func parseManifest(content []byte) (*manifest, error) {
	var fields map[string]json.RawMessage
	m := &manifest{}
	if err := errors.Join(json.Unmarshal(content, &fields), json.Unmarshal(content, m)); err != nil {
		return nil, fmt.Errorf("%w: its manifest is no JSON of a manifest: %w", ErrBadImage, err)
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return fields[n] != nil })
	}
	if strings.HasPrefix(m.MediaType, dockerSchema1) || m.SchemaVersion == 1 {
		return nil, fmt.Errorf("%w: its manifest is of Docker's schema 1, which names no digests of its parts: push it with a newer tool", ErrBadImage)
	}
	switch m.MediaType { // CVE-2021-41190: a document that can be read as both kinds must not be taken for either
	case ocispec.MediaTypeImageIndex, dockerList:
		if has("config", "layers", "fsLayers") {
			return nil, fmt.Errorf("%w: its index has layers too: build it again", ErrBadImage)
		}
	case ocispec.MediaTypeImageManifest, dockerManifest:
		if has("manifests", "fsLayers") {
			return nil, fmt.Errorf("%w: its manifest is an index too: build it again", ErrBadImage)
		}
	case "":
		switch index, image := has("manifests"), has("config", "layers"); {
		case index == image || has("fsLayers"):
			return nil, fmt.Errorf("%w: its manifest does not say what it is: build it again", ErrBadImage)
		case index:
			m.MediaType = ocispec.MediaTypeImageIndex
		default:
			m.MediaType = ocispec.MediaTypeImageManifest
		}
	default:
		return nil, fmt.Errorf("%w: manifests of type %.80q are not supported: push it as an OCI image or artifact", ErrBadImage, m.MediaType)
	}
	return m, nil
}

// choose returns the descriptor of the image for a machine; where an index names none, of an index that may, or of the only
// thing that there is (artifacts have no platform).
func (m *manifest) choose(machine ocispec.Platform) (ocispec.Descriptor, error) {
	best, rank := -1, 0
	var nested, plain []int
	var have []string
	for i, d := range m.Manifests {
		switch index := d.MediaType == ocispec.MediaTypeImageIndex || d.MediaType == dockerList; {
		case d.Platform != nil:
			have = append(have, platformName(*d.Platform))
			if r := suits(*d.Platform, machine); r > rank {
				best, rank = i, r
			}
		case index:
			nested = append(nested, i)
		default:
			plain = append(plain, i)
		}
	}
	switch {
	case best >= 0:
	case len(nested) == 1:
		best = nested[0]
	case len(plain) == 1 && len(m.Manifests) == 1:
		best = plain[0]
	default:
		return ocispec.Descriptor{}, fmt.Errorf("%w: it has no manifest for %s, only for: %s: build one, or set OCI.Platform",
			ErrBadImage, platformName(machine), strings.Join(have, ", "))
	}
	d := m.Manifests[best]
	return d, checkDescriptor(d, maxManifest)
}

// parts returns the config and the layers, each once, and checks what they claim.
func (m *manifest) parts() ([]ocispec.Descriptor, error) {
	all := m.Layers
	if m.Config.Digest != "" || m.Config.Size != 0 { // some artifacts have none
		all = append([]ocispec.Descriptor{m.Config}, all...)
	}
	sizes := map[digest.Digest]int64{}
	parts := make([]ocispec.Descriptor, 0, len(all))
	for _, d := range all {
		if strings.HasPrefix(d.MediaType, undistributed) || strings.HasPrefix(d.MediaType, dockerForeign) {
			return nil, fmt.Errorf("%w: layer %s is to be had from elsewhere (%s): push it with its foreign layers", ErrBadImage, d.Digest, d.MediaType)
		}
		if err := checkDescriptor(d, math.MaxInt64); err != nil {
			return nil, err
		}
		if size, seen := sizes[d.Digest]; seen {
			if size != d.Size {
				return nil, fmt.Errorf("%w: %s is said to have %d and %d bytes: build it again", ErrBadImage, d.Digest, size, d.Size)
			}
			continue
		}
		sizes[d.Digest] = d.Size
		parts = append(parts, d)
	}
	return parts, nil
}

func checkDescriptor(d ocispec.Descriptor, limit int64) error {
	if err := checkDigest(d.Digest.String()); err != nil {
		return fmt.Errorf("%w: %w: build it again", ErrBadImage, err)
	}
	if d.Size < 0 || d.Size > limit {
		return fmt.Errorf("%w: %w: %s is said to have %d bytes, %d are allowed: build it again", ErrBadImage, ErrSize, d.Digest, d.Size, limit)
	}
	return nil
}

// total adds up sizes; false where no disk could hold them.
func total(parts []ocispec.Descriptor) (int64, bool) {
	var sum int64
	for _, d := range parts {
		if d.Size > math.MaxInt64-maxManifest*maxDepth-sum {
			return 0, false
		}
		sum += d.Size
	}
	return sum, true
}
