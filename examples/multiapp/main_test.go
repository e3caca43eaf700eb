package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient/internal/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) *testserver.Server {
	t.Helper()
	server, err := startServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// count returns how often the server noted a status for an app.
func count(server *testserver.Server, appID string, status testserver.Status) (n int) {
	for _, instance := range server.Instances(appID) {
		for _, entry := range instance.History {
			if entry.Status == status {
				n++
			}
		}
	}
	return n
}

func TestDemo_eachAppHasItsOwnOutcome(t *testing.T) {
	server := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var waiting sync.WaitGroup
	waiting.Go(func() {
		server.WaitFor(ctx, func(s *testserver.Server) bool {
			for _, id := range appIDs() {
				if id == brokenApp && count(s, id, testserver.Error) < 2 || id != brokenApp && count(s, id, testserver.Complete) < 1 {
					return false
				}
			}
			return true
		})
		cancel()
	})
	var out listener
	if err := demo(ctx, server, time.Millisecond, &out); err != nil {
		t.Error(err)
	}
	waiting.Wait()
	for _, id := range appIDs() {
		instance := server.Instances(id)[0]
		switch {
		case id == brokenApp && (instance.Version != "1.0.0" || instance.ErrorCode != 5 || count(server, id, testserver.Error) != 2):
			t.Errorf("the server's record of the broken app: %+v", instance)
		case id != brokenApp && (instance.Version != "2.0.0" || instance.Grants != 1):
			t.Errorf("the server's record: %+v", instance)
		}
	}
	for _, want := range []string{
		"io.example.Archive  2.0.0: deployed\n",
		"io.example.Broken   2.0.0: deploying, attempt 2\n",
		"io.example.Broken   2.0.0: failed, and the server is told so: its start script ends with an error\n",
		"    io.example.Api      2.0.0    idle\n",
		"    io.example.Broken   1.0.0    backing-off  version 2.0.0 failed 2 times and backs off until ",
		"    io.example.Web      2.0.0    granted → downloading → downloaded → complete\n",
		"→ error (code 5) → granted →",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the output", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestDemo_endsCleanlyInMidDeployment(t *testing.T) {
	server := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &listener{want: slowApp + "  2.0.0: deploying", heard: cancel}
	if err := demo(ctx, server, 24*time.Hour, out); err != nil {
		t.Error(err)
	}
	if want := slowApp + "  2.0.0: interrupted, left without a verdict"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in:\n%s", want, out)
	}
	if n := count(server, slowApp, testserver.Complete) + count(server, slowApp, testserver.Error); n > 0 {
		t.Errorf("the server has an outcome of the interrupted deployment: %+v", server.Instances(slowApp))
	}
}

func TestRun_endsByItself(t *testing.T) {
	var out listener
	if err := run(t.Context(), []string{"-for", "50ms", "-slow", "1ms"}, &out); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "Stopped.") {
		t.Errorf("no end in:\n%s", &out)
	}
}

func TestRun_flags(t *testing.T) {
	if err := run(t.Context(), []string{"-help"}, io.Discard); err != nil {
		t.Errorf("-help: %v", err)
	}
	if err := run(t.Context(), []string{"-unknown"}, io.Discard); err == nil {
		t.Error("an unknown flag is taken")
	}
}

// listener keeps what is written, and calls heard once want is in it.
type listener struct {
	want  string
	heard func()

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *listener) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(text)
	if l.heard != nil && strings.Contains(l.text.String(), l.want) {
		l.heard()
	}
	return n, err
}

func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
