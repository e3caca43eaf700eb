//go:build unix

package apply_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

func TestCommand_isToldOfTheOffer(t *testing.T) {
	w := onSockets(t)
	dir := t.TempDir()
	w.offering(appA, "2.0.0", []byte("the payload"))
	hook := script(t, dir, "hook", `cat > input.json; env | grep ^OMAHA_ > env; cat "$OMAHA_PAYLOAD" > payload; printf 'one\ntwo\nthree' ; echo oh >&2; echo "$1 $MORE" > args`)
	log := &logbook{}
	must(t, w.outcome(apply.Command{
		Args: []string{hook, "first"}, Dir: dir, Env: []string{"MORE=more"}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	}))
	want(t, "server", w.instance(appA).Status, testserver.Complete)
	wantFile(t, filepath.Join(dir, "payload"), "the payload")
	wantFile(t, filepath.Join(dir, "args"), "first more\n")
	content, err := os.ReadFile(filepath.Join(dir, "input.json"))
	must(t, err)
	var in apply.CommandInput
	must(t, json.Unmarshal(content, &in))
	want(t, "input", in.AppID+" "+in.Channel+" "+in.CurrentVersion+" "+in.Version+" "+in.Payloads[0].Name+" "+in.Manifest.Version,
		appA+" stable 1.0.0 2.0.0 app.bin 2.0.0")
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	must(t, err)
	for _, line := range []string{"OMAHA_APP_ID=" + appA, "OMAHA_VERSION=2.0.0", "OMAHA_CURRENT_VERSION=1.0.0", "OMAHA_CHANNEL=stable", "OMAHA_ATTEMPT=1", "OMAHA_STATE_DIR=" + w.dir} {
		if !strings.Contains(string(env), line+"\n") {
			t.Errorf("%q is not in the environment:\n%s", line, env)
		}
	}
	for _, line := range []string{"line=one", "line=two", "line=three", "stream=stderr line=oh"} {
		if strings.Count(log.String(), line) != 1 {
			t.Errorf("%q is not once in the log:\n%s", line, log)
		}
	}
}

func TestCommand_exitStatusIsTheVerdict(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		c          apply.Command
		status     testserver.Status
		code       int
	}{
		{"failure", "echo disk is gone; exit 3", apply.Command{}, testserver.Error, 5},
		{"a code of its own", "exit 3", apply.Command{Codes: map[int]omaha.ExitCode{3: 12}}, testserver.Error, 12},
		{"restart", "exit 100", apply.Command{RestartStatus: 100}, testserver.Installed, 0},
		{"not now", "exit 75", apply.Command{DeferStatus: 75, DeferFor: time.Hour}, testserver.Error, 36},
		{"not well", "", apply.Command{Probe: apply.Exec("false")}, testserver.Error, 5},
		{"too slow", "sleep 60", apply.Command{Timeout: 50 * time.Millisecond}, testserver.Error, 5},
		{"a daemon left behind", "sleep 0.2 & exit 0", apply.Command{}, testserver.Complete, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := onSockets(t)
			w.offering(appA, "2.0.0", []byte("x"))
			tc.c.Args = []string{script(t, t.TempDir(), "hook", tc.body)}
			err := w.outcome(tc.c)
			want(t, "server", w.instance(appA).Status, tc.status)
			want(t, "code", w.instance(appA).ErrorCode, tc.code)
			if tc.name == "failure" {
				wantText(t, err, "disk is gone")
			}
		})
	}
}

func TestCommand_isKilledWithItsGroup(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "alive")
	must(t, syscall.Mkfifo(fifo, 0o600))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	done := make(chan error, 1)
	go func() {
		done <- apply.Command{Args: []string{script(t, dir, "hook", grandchild(fifo))}}.Apply(ctx, omahaclient.UpdateOffer{})
	}()
	alive, err := os.Open(fifo)
	must(t, err)
	defer alive.Close()
	r := bufio.NewReader(alive)
	line, err := r.ReadString('\n')
	must(t, err)
	want(t, "line", line, "up\n")
	cancel(errDone)
	wantErr(t, <-done, errDone)
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 { // ends when the last of the group is gone
		t.Errorf("%q, %v", rest, err)
	}
}
