package fetcher_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

// cosignPub is the file that "cosign generate-key-pair" wrote; programs embed it.
const cosignPub = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEY94F/DVKk2PKK+uZJEoRQ1Pdyjf3
CkCaxQPojyUF12xqVImsmdnnhxRELaV/KJ6pSki4yu3bdHKg9zp26mE4/A==
-----END PUBLIC KEY-----
`

// Only images are taken that were signed with "cosign sign --key cosign.key".
func ExampleCosign() {
	registry := testregistry.New() // in place of registry.example
	server := httptest.NewServer(registry)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	unsigned := registry.PushImage("ns/app", "linux/amd64", []byte("anything"))
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	trusted, err := fetcher.NewCosign(cosignPub)
	if err != nil {
		panic(err)
	}
	images := fetcher.OCI{Verifier: trusted}
	_, err = images.Fetch(context.Background(), fetcher.Job{
		Source:   fetcher.Source{URLs: []string{host + "/ns/app@" + unsigned.Manifest.Digest.String()}},
		Dir:      filepath.Join(dir, "release"),
		Shared:   filepath.Join(dir, "shared"),
		Progress: func(done, total int64) {},
	})
	fmt.Println(errors.Is(err, fetcher.ErrUnsigned))
	// Output: true
}
