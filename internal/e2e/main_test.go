package e2e_test

import (
	"fmt"
	"os"
	"testing"
)

// childEnv names what this test binary is to do as a process of its own.
const childEnv = "E2E_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := children[what](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
