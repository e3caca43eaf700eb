package apply

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

const (
	activateTime = 5 * time.Minute  // for a program that makes a version run
	rollBackTime = 10 * time.Minute // for making the version from before run, whatever ended the update
)

// Run makes an Activate of a program, such as Run("systemctl", "restart", "agent"). It must exit with 0 within 5 minutes:
// systemctl waits until the unit has stopped and started, each of which may take 90 seconds before systemd itself gives up
// (systemd-system.conf(5), DefaultTimeoutStopSec). The name is looked up in PATH, as by os/exec. Its last output is part of
// the error; its process group is killed with ctx. For other times set a limit to ctx in a function of your own.
func Run(name string, args ...string) func(ctx context.Context) error {
	return runWithin(activateTime, name, args...)
}

func runWithin(limit time.Duration, name string, args ...string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no exit within %v", limit))
		defer cancel()
		return run(ctx, exec.CommandContext(ctx, name, args...)) //nolint:gosec // the caller's program
	}
}

// activate makes what is in place run, and asks the probe.
func activate(ctx context.Context, s steps, fn func(context.Context) error, p Probe) error {
	if fn != nil {
		if err := s.take("activate", func() error { return safely(func() error { return fn(ctx) }) }); err != nil {
			return fmt.Errorf("activate: %w", err)
		}
	}
	return s.take("probe", func() error { return healthy(ctx, p) })
}

// activateOld makes the version from before run again, and adds to cause what went wrong with that.
func activateOld(s steps, fn func(context.Context) error, cause error) error {
	if fn == nil {
		return cause
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollBackTime) // whatever ends the update
	defer cancel()
	if err := s.take("activate", func() error { return safely(func() error { return fn(ctx) }) }); err != nil {
		return errors.Join(cause, fmt.Errorf("the version from before: activate: %w", err))
	}
	return cause
}
