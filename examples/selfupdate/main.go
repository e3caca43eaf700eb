// Selfupdate is a program that updates itself in front of your eyes:
//
//	go run ./examples/selfupdate
//
// It brings a Nebraska-like server along (demo.go), starts version 1.0.0 of itself, which finds 2.0.0 on the server, takes
// its place and confirms itself. Then a release 3.0.0 comes out that crashes at its start: three starts later 2.0.0 is
// back, says why, and the server knows.
//
// What a program of your own needs is in this file: call apply.Recover first thing in main, tell the Client which version
// runs, and serve its offers with an apply.Binary without a Path.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
)

const appID = "io.example.SelfUpdate"

func main() {
	// First of all, before anything that may crash: a new version that started three times, and was not confirmed, is rolled back here.
	if err := apply.Recover(os.Getenv(stateDirEnv)); err != nil {
		fmt.Fprintln(os.Stderr, "selfupdate:", err)
		if errors.Is(err, omahaclient.ErrRestartRequired) {
			os.Exit(1) // the version from before is back: whoever started this one starts that
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if server := os.Getenv(serverEnv); server != "" {
		err = agent(ctx, server, os.Getenv(stateDirEnv))
	} else {
		err = demo(ctx, os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "selfupdate:", err)
		os.Exit(1)
	}
}

// agent is the program that keeps itself up to date. Its real work would go on beside Serve.
func agent(ctx context.Context, server, stateDir string) error {
	version, broken, err := identity()
	if err != nil {
		return err
	}
	fmt.Printf("  version %s starts, process %d\n", version, os.Getpid())
	if broken {
		return errors.New("this release is broken")
	}
	client, err := omahaclient.New(server,
		omahaclient.WithApp(appID, version, omahaclient.WithChannel("stable"), omahaclient.WithManualConfirm()),
		omahaclient.WithStateDir(stateDir),
		omahaclient.WithLogger(slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))), // Serve's, too
		// By default the first check comes after 5 to 15 minutes, the next ones after 45 to 90.
		omahaclient.WithSchedule(omahaclient.Schedule{
			FirstMin: time.Millisecond, FirstMax: time.Millisecond, Min: 50 * time.Millisecond, Max: 100 * time.Millisecond,
		}),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	err = apply.Serve(ctx, client, apply.Binary{
		Restart: apply.RestartExec,
		// Asked by the new version of itself; then Serve confirms it to the server.
		Probe: apply.ProbeFunc(func(context.Context) error {
			fmt.Printf("  version %s has looked at itself: all is well\n", version)
			return nil
		}),
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}
