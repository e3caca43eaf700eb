//go:build unix

package apply_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/testserver"
)

func init() { children["by user"] = byUser } //nolint:gochecknoinits // before TestMain

// byUser is an agent whose restart is up to its user. It ends, well, when its standard input does.
func byUser(args []string) error {
	dir := os.Getenv(agentState)
	if err := apply.Recover(dir); err != nil {
		return err
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	version, _, err := who(path)
	if err != nil {
		return err
	}
	client, err := omahaclient.New(args[0], omahaclient.WithStateDir(dir), omahaclient.WithMachineID(machine),
		omahaclient.WithSchedule(quick), appAt(appA, version, omahaclient.WithManualConfirm()))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, end := context.WithCancelCause(context.Background())
	go func() { // until the process ends
		_, _ = os.Stdin.Read(make([]byte, 1))
		end(errDone)
	}()
	err = apply.Serve(ctx, client, apply.Binary{Restart: apply.RestartByUser})
	if !errors.Is(err, errDone) {
		return errors.Join(errors.New("Serve ended by itself"), err)
	}
	return nil
}

// Serve goes on, and nothing restarts the program but its user.
func TestBinary_aProgramRestartedByItsUser(t *testing.T) {
	w := onSockets(t)
	path := filepath.Join(t.TempDir(), "agent")
	must(t, os.WriteFile(path, agentOf(t, "1.0.0", "well"), 0o755))
	w.offering(appA, "2.0.0", agentOf(t, "2.0.0", "well"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	runs := func(until func() bool) {
		cmd := child(t, "by user", w.URL())
		cmd.Path, cmd.Env, cmd.Stderr = path, append(cmd.Env, agentState+"="+w.dir), os.Stderr
		stdin, err := cmd.StdinPipe()
		must(t, err)
		must(t, cmd.Start())
		err = w.WaitFor(ctx, func(*testserver.Server) bool { return until() })
		must(t, errors.Join(err, stdin.Close(), cmd.Wait())) // the same process, to the end
	}
	checks := 0
	runs(func() bool {
		if w.instance(appA).Status == testserver.Installed {
			checks++
		}
		return checks > 2 // it goes on to ping
	})
	want(t, "server", w.instance(appA).Status, testserver.Installed)
	version, _, err := who(path)
	must(t, err)
	want(t, "in place", version, "2.0.0")
	runs(w.reached(appA, testserver.Complete))
	want(t, "server", w.instance(appA).Version, "2.0.0")
}
