//go:build unix

package apply_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/testserver"
)

func init() { children["agent"] = agent } //nolint:gochecknoinits // before TestMain

// trailer is what follows the test's own executable in an agent's: it tells the version and how it behaves.
func trailer(version, behaviour string) string {
	return fmt.Sprintf("\n%-15s%-16s", version, behaviour)
}

// agentOf makes an executable of an agent.
func agentOf(t *testing.T, version, behaviour string) []byte {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	content, err := os.ReadFile(self)
	must(t, err)
	return append(content, trailer(version, behaviour)...)
}

// who tells version and behaviour of an agent's executable.
func who(path string) (version, behaviour string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	end := make([]byte, len(trailer("", "")))
	if _, err := f.Seek(-int64(len(end)), io.SeekEnd); err != nil {
		return "", "", err
	}
	if _, err := io.ReadFull(f, end); err != nil {
		return "", "", err
	}
	words := strings.Fields(string(end))
	if len(words) != 2 {
		return "", "", fmt.Errorf("trailer %q", end)
	}
	return words[0], words[1], nil
}

const (
	agentState = "OMAHACLIENT_AGENT_STATE" // names the state directory to an agent
	agentLogs  = "OMAHACLIENT_AGENT_LOGS"  // lets it log
)

// agent is a program that updates itself. Its argument is a server's URL.
func agent(args []string) error {
	told := stepping()
	recovered := apply.RecoverStepped(os.Getenv(agentState), told)
	path, err := os.Executable()
	if err != nil {
		return err
	}
	version, behaviour, err := who(path)
	if err != nil {
		return err
	}
	if recovered != nil {
		return recovered
	}
	fmt.Println("start", version)
	if behaviour == "crash" {
		return errors.New("crash")
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv(agentLogs) != "" {
		log = slog.New(slog.NewTextHandler(os.Stdout, nil))
	}
	client, err := omahaclient.New(args[0], omahaclient.WithStateDir(os.Getenv(agentState)), omahaclient.WithMachineID(machine),
		omahaclient.WithSchedule(quick), omahaclient.WithLogger(log), appAt(appA, version, omahaclient.WithManualConfirm()))
	if err != nil {
		return err
	}
	defer client.Close()
	b := apply.Binary{Restart: apply.RestartExec, Probe: apply.ProbeFunc(func(context.Context) error {
		if behaviour == "sick" {
			return errors.New("sick")
		}
		return nil
	})}
	if behaviour == "exits" {
		b.Restart = apply.RestartExit
	}
	if behaviour == "fills" { // the disk of its state, before it applies anything
		b.NoTry = true
		return apply.Serve(context.Background(), client, apply.Func(func(ctx context.Context, o omahaclient.UpdateOffer) error {
			name, _ := fillDisk(o.StateDir())
			defer os.Remove(name)
			return b.Apply(ctx, o)
		}))
	}
	return apply.Serve(context.Background(), client, b.Stepped(told))
}

// supervised starts the agent, again whenever it ends, until the server has what is waited for.
func (w *world) supervised(path string, until func() bool, env ...string) (output string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	var out bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		for running.Err() == nil {
			cmd := exec.CommandContext(running, path, w.URL())
			cmd.Env = append(os.Environ(), childEnv+"=agent", agentState+"="+w.dir)
			cmd.Env = append(cmd.Env, env...)
			cmd.Stdout, cmd.Stderr = &out, &out
			_ = cmd.Run()
		}
	}()
	err := w.WaitFor(ctx, func(*testserver.Server) bool { return until() })
	stop()
	<-done
	if err != nil {
		w.t.Fatalf("%v; record %+v; output\n%s", err, w.Instances(appA), &out)
	}
	return out.String()
}

func TestBinary_aProgramReplacesItself(t *testing.T) {
	for _, tc := range []struct {
		behaviour string // of the new version
		status    testserver.Status
		runs      string
		output    string // in its order
	}{
		{"well", testserver.Complete, "2.0.0", "start 1.0.0 start 2.0.0"},
		{"crash", testserver.Error, "1.0.0", "start 1.0.0 start 2.0.0 crash start 2.0.0 crash start 2.0.0 crash start 1.0.0"},
		{"sick", testserver.Error, "1.0.0", "start 1.0.0 start 2.0.0 start 1.0.0"},
	} {
		t.Run(tc.behaviour, func(t *testing.T) {
			w := onSockets(t)
			path := filepath.Join(t.TempDir(), "agent")
			must(t, os.WriteFile(path, agentOf(t, "1.0.0", "well"), 0o755))
			w.offering(appA, "2.0.0", agentOf(t, "2.0.0", tc.behaviour))
			out := w.supervised(path, w.reached(appA, tc.status))
			version, _, err := who(path)
			must(t, err)
			want(t, "version in place", version, tc.runs)
			if words := strings.Join(strings.Fields(out), " "); !strings.HasPrefix(words, tc.output) {
				t.Errorf("output %q; want it to begin with %q", words, tc.output)
			}
			if tc.status == testserver.Error {
				want(t, "code", w.instance(appA).ErrorCode, 44)
			}
		})
	}
}

// Why a version was rolled back is said by that version's Serve, and by the next start of the one from before.
func TestBinary_saysWhyAProgramIsRolledBack(t *testing.T) {
	for behaviour, want := range map[string]string{"sick": "it is not healthy: sick", "crash": "it started 3 times without being confirmed"} {
		t.Run(behaviour, func(t *testing.T) {
			w := onSockets(t)
			path := filepath.Join(t.TempDir(), "agent")
			must(t, os.WriteFile(path, agentOf(t, "1.0.0", "well"), 0o755))
			w.offering(appA, "2.0.0", agentOf(t, "2.0.0", behaviour))
			out := w.supervised(path, w.reached(appA, testserver.Error), agentLogs+"=1")
			_, next, _ := strings.Cut(out, "installed version does not run")
			wantText(t, errors.New(next), "version 2.0.0 was installed, but 1.0.0 runs: "+want)
			if behaviour == "sick" {
				wantText(t, errors.New(out), "version 2.0.0 is not healthy: sick; the one before is put back")
			}
		})
	}
}

// A restart that does not come about is asked for: the new version is in place.
func TestServe_aRestartThatFailsIsAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("x"))
		path := filepath.Join(t.TempDir(), "agent") // is not there
		err := apply.Serve(t.Context(), w.client(app(appA)), apply.Func(func(context.Context, omahaclient.UpdateOffer) error {
			return apply.AskRestart(apply.RestartExec, path)
		}))
		wantErr(t, err, omahaclient.ErrRestartRequired)
		wantErr(t, err, os.ErrNotExist)
	})
}

func TestBinary_aProgramRestartedByItsSupervisor(t *testing.T) {
	w := onSockets(t)
	path := filepath.Join(t.TempDir(), "agent")
	must(t, os.WriteFile(path, agentOf(t, "1.0.0", "exits"), 0o755))
	w.offering(appA, "2.0.0", agentOf(t, "2.0.0", "well"))
	out := w.supervised(path, w.reached(appA, testserver.Complete))
	wantText(t, errors.New(out), "restart the program")
	wantText(t, errors.New(out), "start 2.0.0")
}
