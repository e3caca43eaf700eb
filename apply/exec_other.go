//go:build !unix

package apply

import "errors"

const canExec = false

// execSelf is never called: canExec says so.
func execSelf(string) error { return errors.ErrUnsupported }
