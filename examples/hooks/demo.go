package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

const (
	demoLimit = time.Minute
	demoApp   = "io.example.Hooked"
	// demoHook is a hook for a Unix shell: it installs the payload by a rename, and tells what it does.
	demoHook = `set -e
echo "attempt $OMAHA_ATTEMPT: $OMAHA_APP_ID from $OMAHA_CURRENT_VERSION to $OMAHA_VERSION"
cp "$OMAHA_PAYLOAD" "$1.new"
mv "$1.new" "$1"
echo "installed: $(cat "$1")"`
)

// demo applies one update by a hook, from a server of its own.
func demo(ctx context.Context, out io.Writer) error {
	ctx, end := context.WithTimeout(ctx, demoLimit)
	defer end()
	dir, err := os.MkdirTemp("", "omahaclient-hooks-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server := testserver.New()
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Close()
	server.AddGroup(demoApp, "stable", testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{
		Version: "1.0.0", Files: []testserver.File{{Name: "greeting.txt", Content: []byte("hello from 1.0.0\n")}},
	})
	var waiting sync.WaitGroup
	running, stop := context.WithCancel(ctx)
	waiting.Go(func() {
		server.WaitFor(ctx, func(*testserver.Server) bool { return over(record(server).Status) })
		stop()
	})
	err = keepUpToDate(running, settings{
		server: server.URL(), app: demoApp, channel: "stable", dir: filepath.Join(dir, "state"), first: time.Millisecond,
		hook: []string{"sh", "-c", demoHook, "hook", filepath.Join(dir, "greeting.txt")},
	}, slog.New(slog.NewTextHandler(out, nil)))
	end()
	waiting.Wait()
	if err != nil {
		return err
	}
	i := record(server)
	fmt.Fprintf(out, "The server's record: %s, version %s, code %d\n", i.Status, i.Version, i.ErrorCode)
	if i.Status != testserver.Complete {
		return fmt.Errorf("the update is not complete: %s", i.Status)
	}
	return nil
}

func over(s testserver.Status) bool { return s == testserver.Complete || s == testserver.Error }

// record is the server's record of the one machine.
func record(server *testserver.Server) testserver.Instance {
	for _, i := range server.Instances(demoApp) {
		return i
	}
	return testserver.Instance{}
}
