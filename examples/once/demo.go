package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// demo does what a timer would do twice: the first round finds an update, the second finds nothing.
func demo(ctx context.Context, s settings, out io.Writer) error {
	dir, err := os.MkdirTemp("", "omahaclient-once-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.app, s.version, s.state = "io.example.App", "", filepath.Join(dir, "state")
	server := testserver.New()
	server.AddGroup(s.app, s.channel, testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{
		Version: "1.1.0",
		Files:   []testserver.File{{Name: "app.bin", Content: bytes.Repeat([]byte("new\n"), 64<<10)}},
	})
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Close()
	s.server = server.URL()

	fmt.Fprintf(out, "A Nebraska-like server within this program listens on %s\n", s.server)
	app := filepath.Join(dir, "app")
	for _, title := range []string{"first round", "second round"} {
		fmt.Fprintf(out, "\n%s:\n", title)
		if err := once(ctx, s, copyTo(app), out); err != nil {
			return err
		}
	}
	for _, instance := range server.Instances(s.app) { // of this machine, the only one
		steps := []string{}
		for _, entry := range instance.History {
			if entry.Status != testserver.Undefined {
				steps = append(steps, string(entry.Status))
			}
		}
		fmt.Fprintf(out, "\nThe server's own record: %s, version %s\n", strings.Join(steps, " → "), instance.Version)
	}
	return nil
}

// copyTo deploys by copying the payload, where the real program runs a command.
func copyTo(target string) deployer {
	return func(_ context.Context, offer omahaclient.UpdateOffer) error {
		content, err := os.ReadFile(offer.Payloads[0].Path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o600) //nolint:gosec // below a directory of the demo
	}
}
