//go:build !linux && !darwin && !windows

package state

// bootID is not known here: every start counts as a boot.
func bootID() string { return "" }
