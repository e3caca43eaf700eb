package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/nebraska/omahaclient/internal/wait"
)

// tryEnv tells a program that Recover is to end it: it is executed to see whether it starts.
const tryEnv = "OMAHACLIENT_TRY"

// try executes the new file once.
func (b Binary) try(ctx context.Context, x executable, version string) error {
	if b.NoTry {
		return nil
	}
	args := b.Try
	if args == nil {
		args = []string{"--version"}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, execTime, fmt.Errorf("no exit within %v: a program that calls apply.Recover first, or "+
		"knows --version, exits at once; see Binary.Try", execTime))
	defer cancel()
	const busyTries = 50
	for n := 0; ; n++ {
		cmd := exec.CommandContext(ctx, x.beside("new"), args...) //nolint:gosec // this is the point
		cmd.Env = append(os.Environ(), tryEnv+"="+version)
		err := run(ctx, cmd)
		// Another goroutine's child may hold our file open for writing between its fork and its exec (go.dev/issue/22315).
		if !errors.Is(err, syscall.ETXTBSY) || n >= busyTries || wait.For(ctx, 20*time.Millisecond) != nil {
			return err
		}
	}
}
