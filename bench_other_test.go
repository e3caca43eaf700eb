//go:build !unix

package omahaclient_test

import (
	"testing"
	"time"
)

var began = time.Now() //nolint:gochecknoglobals // the zero of a clock

// cpuTime is the time that has passed: this system does not tell the CPU time in the same way.
func cpuTime(testing.TB) time.Duration { return time.Since(began) }

func descriptors() int { return 0 }
