// Once does one round of updates and exits: the way of a cron job, a systemd timer, or an administrator at the command
// line. Without -server it shows itself with a Nebraska-like server that is part of the program (demo.go):
//
//	go run ./examples/once
//
// With a server it asks for one app, and hands what it fetched and verified to a command of yours, as the last argument.
// The command's exit status is the verdict, and the code that the server is told:
//
//	once -server https://updates.example.com/v1/update/ -app io.example.App -channel stable /usr/local/sbin/install-app
//
// # Exit codes
//
//	0  nothing to do, or updated
//	1  something failed: the check, the download, the command, a report to the server, or the time is up
//	2  wrong arguments
//
// What could not be finished goes on in the next round: a download from where it stopped, an update without a verdict
// from disk, a report to the server from the journal in the state directory.
//
// # Under systemd
//
// /etc/systemd/system/update-app.service; the state directory is found by $STATE_DIRECTORY:
//
//	[Unit]
//	Wants=network-online.target
//	After=network-online.target
//
//	[Service]
//	Type=oneshot
//	StateDirectory=update-app
//	ExecStart=/usr/local/bin/once -server https://updates.example.com/v1/update/ -app io.example.App -channel stable -timeout 30m /usr/local/sbin/install-app
//
// and /etc/systemd/system/update-app.timer; the random delay keeps a fleet from asking in the same minute:
//
//	[Timer]
//	OnBootSec=10min
//	OnUnitInactiveSec=1h
//	RandomizedDelaySec=30min
//
//	[Install]
//	WantedBy=timers.target
//
// What a program of your own needs is in this file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/nebraska/omahaclient"
)

// once does one round for one app. It returns nil if there was nothing to do, or the update went well.
func once(ctx context.Context, s settings, deploy deployer, out io.Writer) error {
	client, err := omahaclient.New(s.server, options(s)...)
	if err != nil {
		return err
	}
	defer client.Close()

	var failures []error
	updated := false
	for offer := range client.UpdatesOnce(ctx) {
		fmt.Fprintf(out, "%s: %s replaces %s\n", offer.AppID, offer.Version, offer.CurrentVersion)
		failure := deploy(ctx, offer)
		if failure != nil && ctx.Err() != nil {
			continue // cut short: without a verdict it comes again in the next round
		}
		failures = append(failures, failure, offer.Ack(failure))
		updated = failure == nil
	}
	app := client.Status()[0]
	if err := errors.Join(append(failures, client.Err())...); err != nil {
		if ctx.Err() != nil && app.LastError != nil {
			err = fmt.Errorf("%w: %w", err, app.LastError) // what it was waiting for
		}
		return err
	}
	if updated {
		fmt.Fprintf(out, "%s: runs %s now, and the server knows\n", app.AppID, app.Version)
	} else {
		fmt.Fprintf(out, "%s: nothing to do at %s: %s\n", app.AppID, app.Version, app.Reason)
	}
	return nil
}

func options(s settings) []omahaclient.Option {
	opts := []omahaclient.Option{omahaclient.WithApp(s.app, s.version, omahaclient.WithChannel(s.channel))}
	if s.state != "" {
		opts = append(opts, omahaclient.WithStateDir(s.state))
	}
	return opts
}

// deployer installs an offered update.
type deployer func(ctx context.Context, offer omahaclient.UpdateOffer) error

// command deploys by running a command with the payload's path as its last argument. Its error has an ExitCode, which Ack
// reports.
func command(args []string, out io.Writer) deployer {
	return func(ctx context.Context, offer omahaclient.UpdateOffer) error {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the administrator's own command
		cmd.Args = append(cmd.Args, offer.Payloads[0].Path)
		cmd.Env = append(os.Environ(), "UPDATE_APP="+offer.AppID, "UPDATE_VERSION="+offer.Version)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.WaitDelay = 5 * time.Second
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("deploy %s %s with %s: %w", offer.AppID, offer.Version, args[0], err)
		}
		return nil
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "once:", err)
	}
	os.Exit(exitCode(err))
}

// exitCode is what a cron job or a systemd unit sees.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage), errors.Is(err, omahaclient.ErrInvalidOption):
		return 2
	default:
		return 1
	}
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	s, err := parse(args, stdout)
	switch {
	case err != nil:
		return helpIsNoError(err)
	case s.server == "":
		return demo(ctx, s, stdout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("not finished within %v (the next round goes on)", s.timeout))
	defer cancel()
	return once(ctx, s, command(s.command, stdout), stdout)
}
