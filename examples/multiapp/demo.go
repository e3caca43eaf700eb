package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// The demo's apps: all run 1.0.0 and are offered 2.0.0.
const (
	channel   = "stable"
	slowApp   = "io.example.Archive"
	brokenApp = "io.example.Broken"
)

func appIDs() []string { return []string{"io.example.Api", slowApp, brokenApp, "io.example.Web"} }

// run is the whole program. It returns nil when ctx is done or the time of -for is over.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("multiapp", flag.ContinueOnError)
	flags.SetOutput(stdout)
	slow := flags.Duration("slow", 4*time.Second, "how long the deployment of "+slowApp+" takes")
	limit := flags.Duration("for", 0, "end after this time; 0: run until Ctrl-C")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *limit > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, *limit)
		defer stop()
	}
	server, err := startServer()
	if err != nil {
		return err
	}
	defer server.Close()
	return demo(ctx, server, *slow, &printer{out: stdout})
}

// startServer starts a server that has a newer release of each app.
func startServer() (*testserver.Server, error) {
	server := testserver.New()
	for _, id := range appIDs() {
		server.AddGroup(id, channel, testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{
			Version: "2.0.0",
			Files:   []testserver.File{{Name: "app.bin", Content: []byte(id + " 2.0.0\n")}},
		})
	}
	return server, server.Start()
}

// demo keeps the apps up to date until ctx is done, and shows where that left them.
func demo(ctx context.Context, server *testserver.Server, slow time.Duration, out io.Writer) error {
	dir, err := os.MkdirTemp("", "omahaclient-multiapp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	opts := []omahaclient.Option{
		omahaclient.WithStateDir(dir),
		// A real program leaves the schedule alone: the first check after 5 to 15 minutes, the others after 45 to 90.
		omahaclient.WithSchedule(omahaclient.Schedule{
			FirstMin: time.Millisecond, FirstMax: 10 * time.Millisecond, Min: time.Second, Max: 2 * time.Second,
		}),
	}
	for _, id := range appIDs() {
		opts = append(opts, omahaclient.WithApp(id, "1.0.0", omahaclient.WithChannel(channel)))
	}
	client, err := omahaclient.New(server.URL(), opts...)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Four apps, and a Nebraska-like server within this program. Ctrl-C ends it.")
	endWatch := watch(client, out)
	serve(ctx, client, deployment(slow), out)
	endWatch()
	fmt.Fprintf(out, "Stopped. Where the apps stand here:\n%s", table(client.Status()))
	err = client.Close() // delivers what the server is still to be told
	fmt.Fprintf(out, "\nThe server's own record of them:\n%s", record(server))
	return err
}

// deployment only pretends: it takes its time for one app and fails for another.
func deployment(slow time.Duration) deployer {
	return func(ctx context.Context, offer omahaclient.UpdateOffer) error {
		switch offer.AppID {
		case slowApp:
			select {
			case <-time.After(slow):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case brokenApp:
			return omahaclient.WithCode(errors.New("its start script ends with an error"), omaha.ExitPostInstall)
		}
		return nil
	}
}

// watch prints the state of all apps whenever it has changed. The function returned ends it.
func watch(client *omahaclient.Client, out io.Writer) (end func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		last := ""
		for {
			if now := table(client.Status()); now != last {
				last = now
				fmt.Fprintf(out, "\n%s\n", now)
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() { close(done); watching.Wait() }
}

// table shows where the apps stand, without what changes at every check.
func table(apps []omahaclient.AppStatus) string {
	var rows strings.Builder
	for _, app := range apps {
		phase, reason := app.Phase, app.Reason
		if phase == omahaclient.Idle || phase == omahaclient.Checking {
			phase, reason = omahaclient.Idle, ""
			if app.LastError != nil {
				reason = "last error: " + app.LastError.Error()
			}
		}
		row := fmt.Sprintf("    %-18s  %-8s %-12s %s", app.AppID, app.Version, phase, reason)
		fmt.Fprintln(&rows, strings.TrimRight(row, " "))
	}
	return rows.String()
}

// record shows what the server knows, from its side.
func record(server *testserver.Server) string {
	var rows strings.Builder
	for _, id := range appIDs() {
		for _, instance := range server.Instances(id) { // of this machine, the only one
			steps := []string{}
			for _, entry := range instance.History {
				if entry.Status == testserver.Error {
					steps = append(steps, fmt.Sprintf("error (code %d)", entry.ErrorCode))
				} else if entry.Status != testserver.Undefined {
					steps = append(steps, string(entry.Status))
				}
			}
			fmt.Fprintf(&rows, "    %-18s  %-8s %s\n", id, instance.Version, strings.Join(steps, " → "))
		}
	}
	return rows.String()
}

// printer lets several goroutines print.
type printer struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

func (p *printer) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(text)
}
