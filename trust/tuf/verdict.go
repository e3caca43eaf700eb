package tuf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/nebraska/omahaclient/trust"
)

// verdict tells what could not be found out from what must be refused. Whatever is neither the network's nor the disk's
// fault is the metadata's.
func verdict(err error) error {
	if open(err) || errors.Is(err, trust.ErrUntrusted) {
		return err
	}
	for _, known := range []struct{ theirs, ours error }{
		{&metadata.ErrExpiredMetadata{}, trust.ErrExpired},
		{&metadata.ErrBadVersionNumber{}, trust.ErrRollback},
		{&metadata.ErrLengthOrHashMismatch{}, trust.ErrMismatch},
		{&metadata.ErrUnsignedMetadata{}, trust.ErrSignature},
	} {
		if errors.Is(err, known.theirs) {
			return fmt.Errorf("%w: %w", known.ours, err)
		}
	}
	return fmt.Errorf("%w: %w", trust.ErrMalformed, err)
}

// open is whether an error leaves the question open.
func open(err error) bool {
	var (
		unreachable *unreachableError
		path        *fs.PathError
		link        *os.LinkError
		call        *os.SyscallError
	)
	return errors.As(err, &unreachable) || errors.As(err, &path) || errors.As(err, &link) || errors.As(err, &call)
}

// safely turns a panic into a refusal. go-tuf v2.4.2 has some for metadata that are odd enough: a target that is null, say, before
// any signature is looked at.
func safely(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: go-tuf cannot read the metadata: %v", trust.ErrMalformed, r)
		}
	}()
	return fn()
}
