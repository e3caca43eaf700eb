//go:build !linux

package download_test

// childFetchSmallDisk is Linux's alone.
func childFetchSmallDisk([]string) int { return 2 }
