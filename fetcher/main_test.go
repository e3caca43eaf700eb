package fetcher_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" { // a process of the benchmark's
		if err := childMain(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(pullEnv) != "" { // a process that is to be killed
		os.Exit(pullMain(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}
