package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

const (
	serverEnv   = "SELFUPDATE_SERVER"    // makes this the agent, not the demo
	stateDirEnv = "SELFUPDATE_STATE_DIR" // the agent's
	demoLimit   = 2 * time.Minute
	trailer     = "\nselfupdate %-20s %-6s\n" // follows the executable: the demo's way to make versions without a compiler
)

// identity tells which version this executable is. A program of yours would know by -ldflags "-X main.version=1.0.0".
func identity() (version string, broken bool, err error) {
	path, err := os.Executable()
	if err != nil {
		return "", false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	end := make([]byte, len(fmt.Sprintf(trailer, "", "")))
	if _, err := f.Seek(-int64(len(end)), io.SeekEnd); err != nil {
		return "", false, err
	}
	if _, err := io.ReadFull(f, end); err != nil {
		return "", false, err
	}
	words := strings.Fields(string(end))
	if len(words) != 3 || words[0] != "selfupdate" {
		return "", false, errors.New("this executable was not made by the demo")
	}
	return words[1], words[2] == "broken", nil
}

// build makes an executable of a version.
func build(version, state string) ([]byte, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	return append(content, fmt.Sprintf(trailer, version, state)...), err
}

// demo runs the agent against a server of its own.
func demo(ctx context.Context, out io.Writer) error {
	ctx, end := context.WithTimeout(ctx, demoLimit)
	defer end()
	dir, err := os.MkdirTemp("", "omahaclient-selfupdate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server := testserver.New()
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Close()
	path := filepath.Join(dir, "agent")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	first, err := build("1.0.0", "fine")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, first, 0o755); err != nil { //nolint:gosec // a program
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	group := server.AddGroup(appID, "stable", testserver.AnyArch, testserver.Policy{})
	group.Publish(testserver.Release{Version: "1.0.0", Files: []testserver.File{{Name: "agent", Content: first}}})
	go func() {
		defer close(ended)
		supervise(running, out, path, server.URL(), filepath.Join(dir, "state"))
	}()
	err = story(ctx, out, server, group)
	stop()
	<-ended
	return err
}

// supervise starts the agent again whenever it ends, as systemd would.
func supervise(ctx context.Context, out io.Writer, path, url, stateDir string) {
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, path)
		cmd.Env = append(os.Environ(), serverEnv+"="+url, stateDirEnv+"="+stateDir)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.Run() // why it ended is in its output
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func story(ctx context.Context, out io.Writer, server *testserver.Server, group *testserver.Group) error {
	for _, r := range []struct {
		version, state string
		want           testserver.Status
	}{{"2.0.0", "fine", testserver.Complete}, {"3.0.0", "broken", testserver.Error}} {
		content, err := build(r.version, r.state)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\nThe server now offers %s, which is %s:\n", r.version, r.state)
		group.Publish(testserver.Release{Version: r.version, Files: []testserver.File{{Name: "agent", Content: content}}})
		reached := func(s *testserver.Server) bool {
			i := record(s)
			return i.GrantedVersion == r.version && i.Status == r.want
		}
		if err := server.WaitFor(ctx, reached); err != nil {
			return fmt.Errorf("version %s: %w; the server's record: %+v", r.version, err, record(server))
		}
		i := record(server)
		fmt.Fprintf(out, "The server's record: version %s, update to %s: %s, code %d\n", i.Version, r.version, i.Status, i.ErrorCode)
		if r.want == testserver.Error && i.ErrorCode != 44 {
			return fmt.Errorf("version %s: code %d; want 44, rolled back", r.version, i.ErrorCode)
		}
	}
	fmt.Fprintln(out, "\n2.0.0 runs again, and 3.0.0 backs off.")
	return nil
}

// record is the server's record of the one machine.
func record(server *testserver.Server) testserver.Instance {
	for _, i := range server.Instances(appID) {
		return i
	}
	return testserver.Instance{}
}
