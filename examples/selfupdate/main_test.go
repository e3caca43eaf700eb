package main

import (
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" { // the demo has started the agent
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestDemo(t *testing.T) {
	var out log
	if err := demo(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	rest := out.String()
	for _, want := range []string{
		"version 1.0.0 starts", "offers 2.0.0", "version 2.0.0 starts", "version 2.0.0 has looked at itself", "version 2.0.0, update to 2.0.0: complete",
		"offers 3.0.0", "version 3.0.0 starts", "broken", "version 3.0.0 starts", "version 3.0.0 starts", "version 2.0.0 starts",
		"version 3.0.0 was installed, but 2.0.0 runs: it started 3 times without being confirmed", "version 2.0.0, update to 3.0.0: error, code 44", "2.0.0 runs again",
	} {
		_, after, found := strings.Cut(rest, want)
		if want == "version 1.0.0 starts" {
			continue // beside the first offer
		}
		if !found {
			t.Fatalf("%q does not come, or not in its turn:\n%s", want, &out)
		}
		rest = after
	}
}

// log is written to by the demo and by processes.
type log struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
