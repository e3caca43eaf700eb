//go:build !unix

package state

import "io/fs"

// checkOwner asks nothing: who may write there is said by more than an owner and a mode.
func checkOwner(string, fs.FileInfo) error { return nil }
