package download_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if run, ok := children[os.Getenv("DOWNLOAD_TEST_CHILD")]; ok {
		os.Exit(run(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}
