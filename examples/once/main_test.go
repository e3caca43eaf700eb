package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient/internal/testserver"
)

const appID = "io.example.App"

// installerRole makes this test binary the command that deploys: it copies its last argument, the payload, to the file
// that the variable names, or fails with status 7 where it names none.
const installerRole = "ONCE_TEST_INSTALL_TO"

func TestMain(m *testing.M) {
	if target, ok := os.LookupEnv(installerRole); ok {
		os.Exit(install(target))
	}
	goleak.VerifyTestMain(m)
}

func install(target string) int {
	content, err := os.ReadFile(os.Args[len(os.Args)-1])
	if err != nil || target == "" || os.WriteFile(target, append(content, os.Getenv("UPDATE_VERSION")...), 0o600) != nil {
		return 7
	}
	return 0
}

// job is a cron job whose command is this test binary.
type job struct {
	server                  *testserver.Server
	channel, state, timeout string
}

func newJob(t *testing.T, p testserver.Policy) job {
	t.Helper()
	server := testserver.New()
	server.AddGroup(appID, "beta", testserver.AnyArch, p).Publish(testserver.Release{
		Version: "1.1.0", Files: []testserver.File{{Name: "app.bin", Content: []byte("content of ")}},
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return job{server, "beta", t.TempDir(), "1m"}
}

// round runs the job once, and returns what it prints.
func (j job) round(t *testing.T) (output string, code int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = run(t.Context(), []string{
		"-server", j.server.URL(), "-app", appID, "-channel", j.channel, "-state", j.state, "-timeout", j.timeout, self, "-an", "argument",
	}, &out)
	if err != nil {
		out.WriteString(err.Error())
	}
	return out.String(), exitCode(err)
}

func (j job) record() testserver.Instance { return j.server.Instances(appID)[0] }

func TestRun_updatesOnceThenFindsNothing(t *testing.T) {
	target := filepath.Join(t.TempDir(), "installed")
	t.Setenv(installerRole, target)
	j := newJob(t, testserver.Policy{})
	if out, code := j.round(t); code != 0 || !strings.Contains(out, "io.example.App: runs 1.1.0 now") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if content, err := os.ReadFile(target); string(content) != "content of 1.1.0" || err != nil {
		t.Errorf("the command installed %q, %v", content, err)
	}
	if got := j.record(); got.Status != testserver.Complete || got.Version != "1.1.0" {
		t.Errorf("the server's record: %+v", got)
	}
	if out, code := j.round(t); code != 0 || out != "io.example.App: nothing to do at 1.1.0: no update\n" {
		t.Errorf("second round: exit code %d:\n%s", code, out)
	}
	if got := j.record(); got.Grants != 1 {
		t.Errorf("%d grants, want 1", got.Grants)
	}
}

func TestRun_reportsTheCommandsExitStatus(t *testing.T) {
	t.Setenv(installerRole, "")
	j := newJob(t, testserver.Policy{})
	if out, code := j.round(t); code != 1 || !strings.Contains(out, "deploy io.example.App 1.1.0 with ") || !strings.Contains(out, "exit status 7") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if got := j.record(); got.Status != testserver.Error || got.ErrorCode != 7 {
		t.Errorf("the server's record: %+v", got)
	}
}

func TestRun_takesARefusalByPolicyForNothingToDo(t *testing.T) {
	j := newJob(t, testserver.Policy{Disabled: true})
	if out, code := j.round(t); code != 0 || !strings.Contains(out, "nothing to do at 0.0.0: server: updates disabled for this group") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestRun_saysWhatAnOutageIs(t *testing.T) {
	j := newJob(t, testserver.Policy{})
	j.server.Offline(true)
	j.timeout = "20ms"
	if out, code := j.round(t); code != 1 || !strings.Contains(out, "not finished within 20ms") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestRun_saysWhatTheServerDoesNotKnow(t *testing.T) {
	j := newJob(t, testserver.Policy{})
	j.channel = "Beta" // in the wrong case
	if out, code := j.round(t); code != 1 || !strings.Contains(out, `knows no app "io.example.App" with a channel "Beta"`) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestRun_demo(t *testing.T) {
	temp := t.TempDir()
	for _, variable := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(variable, temp)
	}
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"\nfirst round:\nio.example.App: 1.1.0 replaces 0.0.0\nio.example.App: runs 1.1.0 now, and the server knows\n",
		"\nsecond round:\nio.example.App: nothing to do at 1.1.0: no update\n",
		"\nThe server's own record: granted → downloading → downloaded → complete, version 1.1.0\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

func TestRun_wrongArguments(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"an app without a server", []string{"-app", appID}, "need -server"},
		{"a server without an app", []string{"-server", "http://127.0.0.1/", "true"}, "needs -app"},
		{"no command", []string{"-server", "http://127.0.0.1/", "-app", appID}, "name the command"},
		{"no time", []string{"-server", "http://127.0.0.1/", "-app", appID, "-timeout", "0", "true"}, "-timeout"},
		{"an unknown flag", []string{"-what"}, "-what"},
		{"a bad app", []string{"-server", "http://127.0.0.1/", "-app", "an app", "true"}, "an app"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := run(t.Context(), tc.args, io.Discard); exitCode(err) != 2 || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("run: %v, want exit code 2 and %q", err, tc.want)
			}
		})
	}
	if err := run(t.Context(), []string{"-help"}, io.Discard); err != nil {
		t.Errorf("-help: %v", err)
	}
	if code := exitCode(errors.New("any other")); code != 1 {
		t.Errorf("exit code %d for a failure, want 1", code)
	}
}
