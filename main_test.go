package omahaclient_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// No test may leave a goroutine behind, of the Client's or of its own. The crash tests run this binary again, as the program
// that they kill.
func TestMain(m *testing.M) {
	if life := os.Getenv(crashChildEnv); life != "" {
		os.Exit(crashChild(life))
	}
	goleak.VerifyTestMain(m)
}
