package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// demoLimit is far more than the demo takes; it ends a demo that hangs.
const demoLimit = time.Minute

// demoApp is an app as the demo's server has it.
type demoApp struct {
	app
	newest string
	file   string
	size   int
}

// demo runs keepUpToDate against a server of its own until that server has recorded both updates as complete, and shows
// its record.
func demo(ctx context.Context, s settings, show display) error {
	apps := []demoApp{
		{app{"io.example.Editor", "1.4.2"}, "1.5.0", "editor.bin", s.size},
		{app{"io.example.Gateway", "0.9.0"}, "1.0.0", "gateway.bin", (s.size + 1) / 2},
	}
	server, err := startServer(s, apps)
	if err != nil {
		return err
	}
	defer server.Close()
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "omahaclient-quickstart-"); err != nil {
			return err
		}
		defer os.RemoveAll(s.dir)
	}
	s.server, s.watch = server.URL(), false
	fmt.Fprintf(show, "A Nebraska-like server within this program listens on %s\n", s.server)
	for _, a := range apps {
		s.apps = append(s.apps, a.app)
		fmt.Fprintf(show, "%-18s  runs %s here; channel %q has %s there, %s\n", a.id, a.version, s.channel, a.newest, byteSize(int64(a.size)))
	}
	fmt.Fprintln(show)

	demoCtx, end := context.WithTimeout(ctx, demoLimit)
	defer end()
	var waiting sync.WaitGroup
	waiting.Go(func() {
		server.WaitFor(demoCtx, settled(apps)) // or until demoCtx is done: the record tells
		end()
	})
	err = keepUpToDate(demoCtx, s, show)
	end()
	waiting.Wait()
	show.Close() // all progress is shown
	if err != nil {
		return err
	}
	fmt.Fprintln(show)
	return showRecord(server, apps, ctx.Err() != nil, show)
}

// startServer starts a server that has a newer release of each app, on a host that is slow enough to be watched.
func startServer(s settings, apps []demoApp) (*testserver.Server, error) {
	server := testserver.New()
	for _, a := range apps {
		content := bytes.Repeat([]byte(a.file+" "+a.newest+"\n"), a.size/len(a.file)+1)[:a.size]
		server.AddGroup(a.id, s.channel, testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{
			Version: a.newest,
			Files:   []testserver.File{{Name: a.file, Content: content}},
		})
	}
	server.Payloads.FailFunc(func(testserver.FileRequest) testserver.FileFault { return testserver.FileFault{Rate: s.rate} })
	return server, server.Start()
}

// settled tells when the server waits for no outcome any more.
func settled(apps []demoApp) func(*testserver.Server) bool {
	return func(server *testserver.Server) bool {
		for _, a := range apps {
			if status := record(server, a.id).Status; status != testserver.Complete && status != testserver.Error {
				return false
			}
		}
		return true
	}
}

// record returns what the server knows of an app on this machine, the only one it has.
func record(server *testserver.Server, appID string) testserver.Instance {
	for _, instance := range server.Instances(appID) {
		return instance
	}
	return testserver.Instance{}
}

// showRecord prints the server's own record of both updates, and returns an error unless they are complete.
func showRecord(server *testserver.Server, apps []demoApp, interrupted bool, show display) error {
	var errs []error
	fmt.Fprintln(show, "The server's own record of this machine:")
	for _, a := range apps {
		instance := record(server, a.id)
		steps := []string{}
		for _, entry := range instance.History {
			if entry.Status != testserver.Undefined {
				steps = append(steps, string(entry.Status))
			}
		}
		fmt.Fprintf(show, "%-18s  %s, version %s\n", a.id, strings.Join(steps, " → "), instance.Version)
		if instance.Status != testserver.Complete && !interrupted {
			errs = append(errs, fmt.Errorf("%s: the server's record ends with %q, error code %d", a.id, instance.Status, instance.ErrorCode))
		}
	}
	if interrupted {
		fmt.Fprintln(show, "interrupted")
	}
	return errors.Join(errs...)
}
