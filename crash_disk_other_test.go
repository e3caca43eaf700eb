//go:build !linux

package omahaclient_test

import (
	"errors"
	"testing"
)

func smallDisk(*testing.T, string) error { return errors.New("only Linux has tmpfs") }
