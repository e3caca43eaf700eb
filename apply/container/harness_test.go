package container_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
)

const childEnv = "OMAHACLIENT_CONTAINER_CHILD" // names what a child process of a test is to do

// children are the processes that tests start, by name.
var children = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := children[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type image struct{ layout, digest string }

func offer(i image, version string) omahaclient.UpdateOffer {
	return omahaclient.UpdateOffer{
		AppID: "io.example.web", Version: version, Attempt: 1,
		Payloads: []fetcher.Payload{{Name: "web", Path: i.layout, Digest: i.digest}},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func code(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 0
}
