package fetcher_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
)

// said is a Fetcher that answers with its own name.
type said string

func (s said) Fetch(context.Context, fetcher.Job) (fetcher.Payload, error) {
	return fetcher.Payload{Path: string(s)}, nil
}

func TestRegistry_picksByMediaType(t *testing.T) {
	r := fetcher.Registry{"binary": said("file"), "application/vnd.oci.image": said("image"), "broken": nil}
	for mediaType, want := range map[string]string{
		"binary": "file", "": "file", "BINARY": "file", " binary ; a=b": "file", "binary;=": "file",
		"application/vnd.oci.image": "image", "Application/VND.oci.Image; charset=utf-8": "image",
	} {
		got, err := r.Fetch(t.Context(), fetcher.Job{Source: fetcher.Source{MediaType: mediaType}})
		if err != nil || got.Path != want {
			t.Errorf("%q: %q, %v", mediaType, got.Path, err)
		}
	}
}

func TestRegistry_unknownMediaType(t *testing.T) {
	for name, r := range map[string]fetcher.Registry{"nil": nil, "other": {"binary": said("file"), "broken": nil}} {
		for _, mediaType := range []string{"application/x-tar", "broken", "binaries", "a/b/c", ";", "\x00"} {
			if name == "nil" || mediaType != ";" { // no type at all means binary
				_, err := r.Fetch(t.Context(), fetcher.Job{Source: fetcher.Source{Name: "a", MediaType: mediaType}})
				if !errors.Is(err, fetcher.ErrUnsupportedType) || !strings.Contains(err.Error(), "WithFetcher") {
					t.Errorf("%s, %q: %v", name, mediaType, err)
				}
			}
		}
	}
}
