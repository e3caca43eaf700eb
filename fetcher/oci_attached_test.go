package fetcher_test

import (
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/fetcher"
)

const statementType = "application/vnd.example.statement.v1+json"

func TestOCI_Attached_findsWhatRefersToTheImage(t *testing.T) {
	h := newHub(t)
	img := h.PushImage("ns/app", "linux/amd64", noise(1, 1000))
	src := fetcher.Source{URLs: []string{h.ref("ns/app", img.Manifest)}}
	o := quickOCI()
	if got, err := o.Attached(t.Context(), src, statementType, 1000); err != nil || len(got) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	layer := h.PushBlob("ns/app", "text/plain", []byte("hello"))
	a := h.PushManifest("ns/app", "", ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: statementType,
		Config:  h.PushBlob("ns/app", ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers:  []ocispec.Descriptor{layer},
		Subject: &img.Manifest,
	})
	h.PushManifest("ns/app", "sha256-"+img.Manifest.Digest.Encoded(), ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{MediaType: a.MediaType, Digest: a.Digest, Size: a.Size, ArtifactType: statementType}},
	})
	got, err := o.Attached(t.Context(), src, statementType, 1000)
	if err != nil || len(got) != 1 || got[0].Digest != a.Digest.String() || len(got[0].Layers) != 1 || string(got[0].Layers[0].Data) != "hello" {
		t.Errorf("got %+v, %v", got, err)
	}
}
