//go:build !linux && !darwin

package fetcher_test

const childEnv = "FETCHER_TEST_CHILD"

// childMain has nothing to do: the benchmark is for systems with getrusage.
func childMain([]string) error { return nil }
