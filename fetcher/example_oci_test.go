package fetcher_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

func ExampleOCI() {
	registry := testregistry.New() // in place of registry.example
	server := httptest.NewServer(registry)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	first := registry.PushImage("ns/app", "linux/amd64", []byte("system"), []byte("app 1"))
	second := registry.PushImage("ns/app", "linux/amd64", []byte("system"), []byte("app 2"))
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	images := fetcher.OCI{
		Platform: "linux/amd64",
		Report: func(p fetcher.Pull) {
			for _, b := range p.Blobs[2:] { // after manifest and config
				fmt.Println(b.Size, "bytes, reused:", b.Reused)
			}
		},
	}
	for i, image := range []testregistry.Image{first, second} {
		payload, err := images.Fetch(context.Background(), fetcher.Job{
			Source:   fetcher.Source{URLs: []string{host + "/ns/app@" + image.Manifest.Digest.String()}},
			Dir:      filepath.Join(dir, fmt.Sprint("release-", i+1)),
			Shared:   filepath.Join(dir, "shared"),
			Progress: func(done, total int64) {},
		})
		if err != nil {
			panic(err)
		}
		fmt.Println(strings.TrimPrefix(filepath.ToSlash(payload.Path), filepath.ToSlash(dir)))
	}
	// Output:
	// 6 bytes, reused: false
	// 5 bytes, reused: false
	// /release-1/image
	// 6 bytes, reused: true
	// 5 bytes, reused: false
	// /release-2/image
}
