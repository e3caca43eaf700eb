package omahaclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

const (
	appA    = "io.example.A"
	appB    = "io.example.B"
	appC    = "io.example.C"
	machine = "machine-1"
	track   = "stable"
)

// world is the surroundings of the clients of one test: an Omaha server with its payload host, a state directory, a log.
type world struct {
	*testserver.Server
	t        *testing.T
	dir      string
	log      *logbook
	patience time.Duration // for what must come
	bubble   bool          // time is virtual
}

// inBubble tells a story whose time is virtual and whose network is in memory.
func inBubble(t *testing.T, story func(t *testing.T, w *world), opts ...testserver.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Server: testserver.New(opts...), t: t, dir: t.TempDir(), log: &logbook{}, patience: 60 * 24 * time.Hour, bubble: true}
		w.StartMemory()
		t.Cleanup(w.Close)
		story(t, w)
	})
}

// onSockets makes a world with a real network, on loopback.
func onSockets(t *testing.T, opts ...testserver.Option) *world {
	t.Helper()
	w := &world{Server: testserver.New(opts...), t: t, dir: t.TempDir(), log: &logbook{}, patience: time.Minute}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// options are what every client of this world has.
func (w *world) options(opts ...omahaclient.Option) []omahaclient.Option {
	return append([]omahaclient.Option{
		omahaclient.WithStateDir(w.dir),
		omahaclient.WithMachineID(machine),
		omahaclient.WithHTTPClient(w.Client()),
		omahaclient.WithFetcher("binary", fetcher.HTTP{Client: w.Client()}),
		omahaclient.WithLogger(slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
	}, opts...)
}

// client makes a Client that is closed with the test, if not before.
func (w *world) client(opts ...omahaclient.Option) *omahaclient.Client {
	w.t.Helper()
	c, err := omahaclient.New(w.URL(), w.options(opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// app is an app at version 1.0.0 on the usual channel.
func app(id string, opts ...omahaclient.AppOption) omahaclient.Option {
	return appAt(id, "1.0.0", opts...)
}

func appAt(id, version string, opts ...omahaclient.AppOption) omahaclient.Option {
	return omahaclient.WithApp(id, version, append([]omahaclient.AppOption{omahaclient.WithChannel(track)}, opts...)...)
}

// quick is a schedule for tests on real time.
func quick() omahaclient.Option {
	return omahaclient.WithSchedule(omahaclient.Schedule{
		FirstMin: time.Millisecond, FirstMax: time.Millisecond, Min: 20 * time.Millisecond, Max: 30 * time.Millisecond,
	})
}

// group adds an app to the server, without a release.
func (w *world) group(id string) *testserver.Group {
	return w.AddGroup(id, track, testserver.AnyArch, testserver.Policy{})
}

// offering adds an app to the server, with a release of one file.
func (w *world) offering(id, version string) *testserver.Group {
	g := w.group(id)
	g.Publish(release(id, version))
	return g
}

func release(id, version string) testserver.Release {
	return testserver.Release{Version: version, Files: []testserver.File{{Name: "app.bin", Content: content(id, version)}}}
}

func content(id, version string) []byte { return []byte("payload of " + id + " " + version + "\n") }

// fileOf is where the payload host has a release's file.
func fileOf(id, version string) string { return testserver.FilePath(id, version, "app.bin") }

// stream is an open stream of a Client.
type stream struct {
	w   *world
	c   *omahaclient.Client
	ch  <-chan omahaclient.UpdateOffer
	end context.CancelCauseFunc
}

var errDone = errors.New("the test is done with this stream")

// updates opens a stream, which ends with the test if not before.
func (w *world) updates(c *omahaclient.Client) *stream {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &stream{w, c, c.Updates(ctx), cancel}
	w.t.Cleanup(func() { s.stop() })
	return s
}

// once opens a round, which ends with the test if not before.
func (w *world) once(c *omahaclient.Client) *stream {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &stream{w, c, c.UpdatesOnce(ctx), cancel}
	w.t.Cleanup(func() { s.stop() })
	return s
}

// stop ends the stream and waits until it is closed. On virtual time what was being reported arrives before: the server may come to
// the end of a request that was cut off at any later moment, after reports that follow.
func (s *stream) stop() {
	if s.w.bubble {
		synctest.Wait()
	}
	s.end(errDone)
	for range s.ch { // what was on its way stays open
	}
}

// next waits for an offer.
func (s *stream) next() omahaclient.UpdateOffer {
	s.w.t.Helper()
	select {
	case o, ok := <-s.ch:
		if !ok {
			s.w.t.Fatalf("the channel is closed (%v); want an offer", s.c.Err())
		}
		return o
	case <-time.After(s.w.patience):
		s.w.t.Fatalf("no offer; status %+v", s.c.Status())
	}
	panic("unreachable")
}

// closed waits for the channel's end and returns Err.
func (s *stream) closed() error {
	s.w.t.Helper()
	select {
	case o, ok := <-s.ch:
		if ok {
			s.w.t.Fatalf("offer %s %s; want a closed channel", o.AppID, o.Version)
		}
	case <-time.After(s.w.patience):
		s.w.t.Fatalf("the channel is not closed; status %+v", s.c.Status())
	}
	return s.c.Err()
}

// silent lets d pass, in which no offer may come and the channel stays open. For bubbles.
func (s *stream) silent(d time.Duration) {
	s.w.t.Helper()
	select {
	case o, ok := <-s.ch:
		s.w.t.Fatalf("offer %s %s (open %v) after less than %v; want none", o.AppID, o.Version, ok, d)
	case <-time.After(d):
	}
}

// wait waits until cond holds.
func (w *world) wait(what string, cond func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), w.patience)
	defer cancel()
	if err := w.WaitFor(ctx, func(*testserver.Server) bool { return cond() }); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// reaches waits until the server has an app of this machine at a status.
func (w *world) reaches(id string, want testserver.Status) testserver.Instance {
	w.t.Helper()
	var i testserver.Instance // as it was then: the next attempt may follow at once
	w.wait(fmt.Sprintf("%s is %s", id, want), func() bool {
		i = w.instance(id)
		return i.Status == want
	})
	return i
}

func (w *world) instance(id string) testserver.Instance {
	i, _ := w.Instance(id, machine)
	return i
}

// history is the server's own record of an app of this machine.
func (w *world) history(id string) string {
	var steps []string
	for _, e := range w.instance(id).History {
		step := string(e.Status)
		if e.Status == testserver.Error {
			step += fmt.Sprint(" ", e.ErrorCode)
		}
		steps = append(steps, step)
	}
	return strings.Join(steps, ", ")
}

// contact is one app's part in a request, with the request's time.
type contact struct {
	testserver.AppRequest
	at      time.Time
	request int // number of the request
	source  string
	session string
}

// contacts are the contacts with the server about an app, oldest first.
func (w *world) contacts(id string) []contact {
	var list []contact
	for i, r := range w.Requests() {
		for _, a := range r.Apps {
			if strings.EqualFold(a.ID, id) {
				list = append(list, contact{a, r.Time, i, r.InstallSource, r.SessionID})
			}
		}
	}
	return list
}

// checks are the contacts that ask for an update.
func (w *world) checks(id string) []contact {
	var list []contact
	for _, c := range w.contacts(id) {
		if c.Check {
			list = append(list, c)
		}
	}
	return list
}

// events are the events about an app as they came, "3/0 10" for a failure with code 10.
func (w *world) events(id string) string {
	var list []string
	for _, c := range w.contacts(id) {
		for _, e := range c.Events {
			text := fmt.Sprintf("%d/%d", e.Type, e.Result)
			if e.ErrorCode != 0 {
				text += fmt.Sprint(" ", e.ErrorCode)
			}
			list = append(list, text)
		}
	}
	return strings.Join(list, ", ")
}

// status is what the client says of an app.
func status(t *testing.T, c *omahaclient.Client, id string) omahaclient.AppStatus {
	t.Helper()
	for _, s := range c.Status() {
		if s.AppID == id {
			return s
		}
	}
	t.Fatalf("no status of %s", id)
	return omahaclient.AppStatus{}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error %v; want %v", got, want)
	}
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v; want %v", what, got, want)
	}
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

// lines are the logged lines with this text.
func (l *logbook) lines(text string) (found []string) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// fetchFunc is a fetcher.Fetcher.
type fetchFunc func(context.Context, fetcher.Job) (fetcher.Payload, error)

func (f fetchFunc) Fetch(ctx context.Context, job fetcher.Job) (fetcher.Payload, error) {
	return f(ctx, job)
}

// goroutinesOf counts the goroutines with one of these names in their stack.
func goroutinesOf(names ...string) int {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	n := 0
	for i, g := range strings.Split(string(buf), "\n\n") {
		// The first one is the test's own; Close may be in it.
		if i > 0 && slices.ContainsFunc(names, func(name string) bool { return strings.Contains(g, name) }) {
			n++
		}
	}
	return n
}

// wantSchedule wants contacts from a time on to be at least lo and at most hi apart, up to now.
func wantSchedule(t *testing.T, contacts []contact, from time.Time, lo, hi time.Duration) {
	t.Helper()
	last, n := time.Time{}, 0
	for _, c := range contacts {
		if d := c.at.Sub(last); !last.IsZero() && last.After(from) && (d < lo || d > hi+time.Second) {
			t.Errorf("%v between contacts; want %v to %v", d, lo, hi)
		}
		if last = c.at; last.After(from) {
			n++
		}
	}
	if span := time.Since(from); n < int(span/hi) {
		t.Errorf("%d contacts in %v", n, span)
	}
}

func wantFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("file %q (%v); want %q", got, err, content)
	}
}

// failuresIn are the joined *Error by app.
func failuresIn(err error) map[string]error {
	found := map[string]error{}
	var walk func(error)
	walk = func(err error) {
		if e, ok := err.(*omahaclient.Error); ok { //nolint:errorlint // the tree is walked by hand
			found[e.AppID] = e
			return
		}
		switch e := err.(type) { //nolint:errorlint // as above
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				walk(inner)
			}
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		}
	}
	walk(err)
	return found
}

func wantFailure(t *testing.T, err error, op string, code omaha.ExitCode) {
	t.Helper()
	var e *omahaclient.Error
	if !errors.As(err, &e) || e.Op != op || e.Code != code || e.AppID == "" || e.Err == nil {
		t.Errorf("error %v (%+v); want op %s, code %d", err, e, op, code)
	}
}

// shortly is a ctx of some seconds.
func shortly() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 5*time.Second)
}

// unknownApps answers for every app as for one that the server does not know, and drops its events.
func unknownApps() testserver.Fault {
	return testserver.Fault{Edit: func(apps []testserver.AppAnswer) []testserver.AppAnswer {
		for i := range apps {
			apps[i] = testserver.AppAnswer{ID: apps[i].ID, Status: "error-unknownApplication"}
		}
		return apps
	}}
}

// copyOf copies a state directory as a crash leaves it.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "state")
	must(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

// flush waits until every report is delivered.
func (w *world) flush(c *omahaclient.Client) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), w.patience)
	defer cancel()
	must(w.t, c.Flush(ctx))
}

// fetchedFromMemory is a fetcher that writes nothing and fetches nothing.
func fetchedFromMemory() fetcher.Fetcher {
	return fetchFunc(func(_ context.Context, job fetcher.Job) (fetcher.Payload, error) {
		return fetcher.Payload{Name: job.Source.Name, MediaType: job.Source.MediaType, Path: filepath.Join(job.Dir, "nothing")}, nil
	})
}
