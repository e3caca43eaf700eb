// Hooks lets a program of yours apply each update (apply.Command). Against a server of yours:
//
//	go run ./examples/hooks -server https://updates.example.com/v1/update/ -app io.example.App -channel stable -- /usr/local/lib/example/update --verbose
//
// The program finds the offer in its environment (OMAHA_VERSION, OMAHA_PAYLOAD, …) and as JSON on its standard input. It
// exits with 0 when the update runs, 100 when that takes a restart, 75 when now is no good time (it is asked again in an hour),
// and anything else for a failure, which is reported. What it prints goes to the log.
//
// Without arguments it shows this with a server and a hook of its own:
//
//	go run ./examples/hooks
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
)

type settings struct {
	server, app, channel, dir string
	hook                      []string
	first                     time.Duration // before the first check
}

// keepUpToDate lets the hook apply the app's updates until ctx is done.
func keepUpToDate(ctx context.Context, s settings, log *slog.Logger) error {
	opts := []omahaclient.Option{
		omahaclient.WithApp(s.app, "", omahaclient.WithChannel(s.channel)),
		omahaclient.WithLogger(log),
		omahaclient.WithSchedule(omahaclient.Schedule{FirstMin: s.first, FirstMax: s.first}),
	}
	if s.dir != "" {
		opts = append(opts, omahaclient.WithStateDir(s.dir))
	}
	client, err := omahaclient.New(s.server, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	err = apply.Serve(ctx, client, apply.Command{
		Args:          s.hook,
		RestartStatus: 100,
		DeferStatus:   75, // EX_TEMPFAIL, sysexits.h
		DeferFor:      time.Hour,
		Logger:        log,
	})
	if ctx.Err() != nil {
		return nil // asked to end
	}
	return err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hooks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	s := settings{first: time.Millisecond}
	flags := flag.NewFlagSet("hooks", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&s.server, "server", "", "URL of the Omaha server; without one, a demo runs")
	flags.StringVar(&s.app, "app", "", "id of the app")
	flags.StringVar(&s.channel, "channel", "stable", "channel that the app follows")
	flags.StringVar(&s.dir, "dir", "", "state directory (default: as the library says)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	s.hook = flags.Args()
	if s.server == "" && len(args) == 0 {
		return demo(ctx, out)
	}
	if s.server == "" || s.app == "" || len(s.hook) == 0 {
		return errors.New("give -server, -app and, after --, the hook; or nothing at all for the demo")
	}
	return keepUpToDate(ctx, s, slog.New(slog.NewTextHandler(out, nil)))
}
