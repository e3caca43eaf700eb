package pool_test

import (
	"context"
	"fmt"

	"github.com/nebraska/omahaclient/pool"
)

func ExamplePool_Do() {
	payloads := pool.New[string, string](2) // two fetches at a time
	path, shared, err := payloads.Do(context.Background(), "io.example.App", "sha256:2c26b46b…",
		func(ctx context.Context) (string, error) { return "/var/lib/app/payload", ctx.Err() })
	fmt.Println(path, shared, err)
	// Output: /var/lib/app/payload false <nil>
}
