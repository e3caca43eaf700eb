package apply_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
)

const (
	appA    = "io.example.A"
	appB    = "io.example.B"
	machine = "machine-1"
	track   = "stable"
)

// childEnv names what a child process of a test is to do.
const childEnv = "OMAHACLIENT_APPLY_CHILD"

// children are the processes that tests start, by name.
var children = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := children[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child prepares a process of this test's own.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	return cmd
}

// world is an Omaha server with its payload host, and a state directory.
type world struct {
	*testserver.Server
	t   *testing.T
	dir string
	log *logbook
}

func inBubble(t *testing.T, story func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Server: testserver.New(), t: t, dir: t.TempDir(), log: &logbook{}}
		w.StartMemory()
		t.Cleanup(w.Close)
		story(t, w)
	})
}

// pass lets time pass in a bubble; outside of one it panics.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func onSockets(t *testing.T) *world {
	t.Helper()
	w := &world{Server: testserver.New(), t: t, dir: t.TempDir(), log: &logbook{}}
	must(t, w.Start())
	t.Cleanup(w.Close)
	return w
}

func (w *world) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (w *world) client(opts ...omahaclient.Option) *omahaclient.Client {
	w.t.Helper()
	c, err := omahaclient.New(w.URL(), append([]omahaclient.Option{
		omahaclient.WithStateDir(w.dir),
		omahaclient.WithMachineID(machine),
		omahaclient.WithHTTPClient(w.Client()),
		omahaclient.WithFetcher("binary", fetcher.HTTP{Client: w.Client()}),
		omahaclient.WithLogger(w.logger()),
		omahaclient.WithSchedule(quick),
	}, opts...)...)
	must(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c
}

var quick = omahaclient.Schedule{FirstMin: time.Millisecond, FirstMax: time.Millisecond, Min: 20 * time.Millisecond, Max: 30 * time.Millisecond}

func app(id string, opts ...omahaclient.AppOption) omahaclient.Option {
	return appAt(id, "1.0.0", opts...)
}

func appAt(id, version string, opts ...omahaclient.AppOption) omahaclient.Option {
	return omahaclient.WithApp(id, version, append([]omahaclient.AppOption{omahaclient.WithChannel(track)}, opts...)...)
}

// offering adds an app to the server, with a release of one file.
func (w *world) offering(id, version string, content []byte) *testserver.Group {
	g := w.AddGroup(id, track, testserver.AnyArch, testserver.Policy{})
	g.Publish(release(version, content))
	return g
}

func release(version string, content []byte) testserver.Release {
	return testserver.Release{Version: version, Files: []testserver.File{{Name: "app.bin", Content: content}}}
}

// served runs Serve until the server's record of an app has a status, and returns what Serve returned.
func (w *world) served(c *omahaclient.Client, a apply.Applier, until func() bool) error {
	w.t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Minute, errors.New("the test took too long"))
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	done := make(chan error, 1)
	go func() { done <- apply.Server{Logger: w.logger()}.Serve(ctx, c, a) }()
	if err := w.WaitFor(ctx, func(*testserver.Server) bool { return until() }); err != nil {
		w.t.Errorf("%v; record %+v; log\n%s", err, w.Instances(appA), w.log)
	}
	end(errDone)
	return <-done
}

var errDone = errors.New("the test is done")

func (w *world) instance(id string) testserver.Instance {
	i, _ := w.Instance(id, machine)
	return i
}

func (w *world) reached(id string, status testserver.Status) func() bool {
	return func() bool { return w.instance(id).Status == status }
}

// outcome lets a client of one app (at 1.0.0) take the release that the server offers, once, and returns the verdict.
func (w *world) outcome(a apply.Applier, opts ...omahaclient.AppOption) (verdict error) {
	w.t.Helper()
	c := w.client(app(appA, opts...))
	var mu sync.Mutex
	spy := apply.Func(func(ctx context.Context, o omahaclient.UpdateOffer) error {
		err := a.Apply(ctx, o)
		mu.Lock()
		defer mu.Unlock()
		verdict = err
		return err
	})
	err := w.served(c, spy, func() bool {
		s := w.instance(appA).Status
		return s == testserver.Complete || s == testserver.Error || s == testserver.Installed
	})
	wantErr(w.t, err, errDone)
	must(w.t, c.Close())
	mu.Lock()
	defer mu.Unlock()
	return verdict
}

func code(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("error %v; want %v", got, want)
	}
}

func want[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v; want %v", what, got, want)
	}
}

func wantFile(t testing.TB, path, content string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Errorf("%s is %.80q (%v); want %.80q", path, got, err, content)
	}
}

func write(t testing.TB, path, content string, mode fs.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
	must(t, os.Chmod(path, mode))
}

// names lists a directory.
func names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// script makes an executable shell script.
func script(t testing.TB, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	write(t, path, "#!/bin/sh\n"+body+"\n", 0o755)
	return path
}

// logbook keeps what was logged.
type logbook struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
