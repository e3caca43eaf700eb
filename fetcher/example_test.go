package fetcher_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/nebraska/omahaclient/fetcher"
)

func ExampleHTTP() {
	const release = "the new version"
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, release)
	}))
	defer mirror.Close()
	dir, err := os.MkdirTemp("", "payload")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	sum := sha256.Sum256([]byte(release))
	payload, err := fetcher.HTTP{}.Fetch(context.Background(), fetcher.Job{
		Source: fetcher.Source{
			Name:   "app-2.0.0.bin",
			URLs:   []string{mirror.URL + "/app-2.0.0.bin"},
			Size:   int64(len(release)),
			SHA256: sum[:],
		},
		Dir:      dir,
		Progress: func(done, total int64) { fmt.Printf("%d of %d bytes\n", done, total) },
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(filepath.Base(payload.Path), payload.Size)
	// Output:
	// 15 of 15 bytes
	// app-2.0.0.bin 15
}
