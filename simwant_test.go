package omahaclient_test

import (
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// pass lets virtual time go by, and everything that is due then happen.
func simPass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// simDeep chooses how large a story is: OMAHACLIENT_DEEP=1 is for those who have time.
func simDeep(quick, deep int) int {
	if os.Getenv("OMAHACLIENT_DEEP") != "" {
		return deep
	}
	return quick
}

// simUntil waits until cond holds.
func simUntil(t *testing.T, what string, limit time.Duration, cond func() bool) {
	t.Helper()
	synctest.Wait()
	for end := time.Now().Add(limit); !cond(); simPass(time.Minute / 4) {
		if !time.Now().Before(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

func simWant[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v; want %v", what, got, want)
	}
}

func simList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q; want %q", what, got, want)
	}
}

func simNoError(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
