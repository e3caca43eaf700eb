package omahaclient_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

const (
	simApp   = "io.example.Sim"
	simTrack = "stable"
)

// simWorld is a server and the machines that it knows, on virtual time and in memory. Its machines are stopped, killed and
// started again on their state directories, as often as a story needs.
type simWorld struct {
	*testserver.Server
	t        *testing.T
	http     *http.Client
	group    *testserver.Group // the usual one
	machines []*simMachine
}

// simulate tells a story in a bubble of its own.
func simulate(t *testing.T, story func(t *testing.T, w *simWorld), opts ...testserver.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &simWorld{Server: testserver.New(opts...), t: t}
		w.StartMemory()
		w.http = w.Client()
		defer w.Close()
		defer func() {
			for _, m := range w.machines {
				m.cut(true)
				m.stop()
			}
		}()
		story(t, w)
	})
}

// channel adds the usual group, without a release.
func (w *simWorld) channel(p testserver.Policy) *testserver.Group {
	w.group = w.AddGroup(simApp, simTrack, testserver.AnyArch, p)
	return w.group
}

// publish gives a group a release of one small file.
func simPublish(g *testserver.Group, version string) {
	g.Publish(testserver.Release{Version: version, Files: []testserver.File{{Name: "app.bin", Content: simContent(version)}}})
}

func simContent(version string) []byte { return []byte(strings.Repeat("payload "+version+"\n", 50)) }

// fetched says how often a release's file was asked for.
func (w *simWorld) fetched(version string) int {
	return w.Payloads.Stats(testserver.FilePath(simApp, version, "app.bin")).Requests
}

// machine adds a machine; start brings it up.
func (w *simWorld) machine(id string) *simMachine {
	m := &simMachine{world: w, id: id, dir: w.t.TempDir(), verdict: simInstalls}
	w.machines = append(w.machines, m)
	return m
}

// simMachine is a machine with one program on it, which has one Client at a time.
type simMachine struct {
	world *simWorld
	id    string
	dir   string
	boot  string // its boot id; "" is the same for ever
	off   atomic.Bool

	client *omahaclient.Client
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex // guards what follows
	verdict simVerdict
	offers  []omahaclient.UpdateOffer
}

// simVerdict is what the program does with an offer; nil holds it.
type simVerdict func(o omahaclient.UpdateOffer) error

func simInstalls(o omahaclient.UpdateOffer) error { return o.Ack(nil) }
func simFails(o omahaclient.UpdateOffer) error    { return o.Ack(errSimBroken) }
func simRestarts(o omahaclient.UpdateOffer) error { return o.Installed() }

var errSimBroken = errors.New("the release does not start")

// start makes the machine's Client; without options, of the one app at the version that the journal knows.
func (m *simMachine) start(opts ...omahaclient.Option) {
	m.world.t.Helper()
	if len(opts) == 0 {
		opts = []omahaclient.Option{simAppAt("")}
	}
	opts = append([]omahaclient.Option{
		omahaclient.WithStateDir(m.dir),
		omahaclient.WithMachineID(m.id),
		omahaclient.WithMachineAlias(m.id),
		omahaclient.WithHTTPClient(&http.Client{Transport: m}),
		omahaclient.WithFetcher("binary", &fetcher.HTTP{Client: &http.Client{Transport: m}}),
	}, opts...)
	if testing.Verbose() && len(m.world.machines) < 5 {
		opts = append(opts, omahaclient.WithLogger(slog.New(slog.NewTextHandler(m.world.t.Output(), nil))))
	}
	if m.boot != "" {
		opts = append(opts, omahaclient.WithBootID(m.boot))
	}
	client, err := omahaclient.New(m.world.URL(), opts...)
	if err != nil {
		m.world.t.Fatal(err)
	}
	m.client = client
}

func simAppAt(version string, opts ...omahaclient.AppOption) omahaclient.Option {
	return omahaclient.WithApp(simApp, version, append([]omahaclient.AppOption{omahaclient.WithChannel(simTrack)}, opts...)...)
}

// cut takes the machine off the network, or connects it again.
func (m *simMachine) cut(off bool) { m.off.Store(off) }

// RoundTrip is the machine's network.
func (m *simMachine) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.off.Load() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}
	}
	return m.world.http.Transport.RoundTrip(r)
}

// run opens a stream; the program receives its offers until stop or kill.
func (m *simMachine) run() {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.ended = cancel, make(chan struct{})
	go func() {
		defer close(m.ended)
		m.serve(m.client.Updates(ctx))
	}()
}

func (m *simMachine) serve(stream <-chan omahaclient.UpdateOffer) {
	for o := range stream {
		m.mu.Lock()
		m.offers = append(m.offers, o)
		verdict := m.verdict
		m.mu.Unlock()
		if verdict == nil {
			continue
		}
		if err := verdict(o); err != nil {
			m.world.t.Errorf("%s: verdict on %s: %v", m.id, o.Version, err)
		}
	}
}

// once makes a round, as a cron job does.
func (m *simMachine) once() error {
	ctx, cancel := context.WithTimeout(context.Background(), simPatience)
	defer cancel()
	m.serve(m.client.UpdatesOnce(ctx))
	return m.client.Err()
}

// flush waits for the delivery of all reports.
func (m *simMachine) flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), simPatience)
	defer cancel()
	return m.client.Flush(ctx)
}

// simPatience is for what must end by itself.
const simPatience = 10 * simDay

// decides changes what the program does with offers from now on.
func (m *simMachine) decides(v simVerdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.verdict = v
}

// seen returns the offers so far, those of earlier processes included.
func (m *simMachine) seen() []omahaclient.UpdateOffer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.offers)
}

// last returns the latest offer.
func (m *simMachine) last() omahaclient.UpdateOffer {
	m.world.t.Helper()
	all := m.seen()
	if len(all) == 0 {
		m.world.t.Fatalf("%s: no offer yet; status %+v", m.id, m.client.Status())
	}
	return all[len(all)-1]
}

// leave ends the stream and waits for it.
func (m *simMachine) leave() {
	if m.cancel != nil {
		m.cancel()
		<-m.ended
		m.cancel = nil
	}
}

// stop ends the program properly.
func (m *simMachine) stop() {
	m.leave()
	if m.client != nil {
		if err := m.client.Close(); err != nil {
			m.world.t.Errorf("%s: close: %v", m.id, err)
		}
		m.client = nil
	}
}

// kill ends the program as kill -9 does: what is on disk at this moment is all that the next one has, and nothing more
// goes out.
func (m *simMachine) kill() {
	m.world.t.Helper()
	synctest.Wait()
	left := m.world.t.TempDir()
	if err := simCopy(left, m.dir); err != nil {
		m.world.t.Fatal(err)
	}
	off := m.off.Swap(true)
	m.stop()
	m.off.Store(off)
	m.dir = left
}

func simCopy(to, from string) error {
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	source := os.DirFS(from)
	return fs.WalkDir(source, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		if d.IsDir() {
			return root.Mkdir(path, 0o700)
		}
		content, err := fs.ReadFile(source, path)
		if err != nil {
			return err
		}
		return root.WriteFile(path, content, 0o600)
	})
}

// status is the client's word on the usual app.
func (m *simMachine) status() omahaclient.AppStatus { return m.client.Status()[0] }

// record is the server's.
func (m *simMachine) record() testserver.Instance {
	i, _ := m.world.Instance(simApp, m.id)
	return i
}

// simContact is an app's part in a request.
type simContact struct {
	testserver.AppRequest
	at     time.Time
	answer string
	seen   bool // by the server
}

// contacts are those about the usual app that reached the server or a fault in front of it, from since on.
func (m *simMachine) contacts(since time.Time) []simContact {
	return m.contactsOf(simApp, since)
}

func (m *simMachine) contactsOf(id string, since time.Time) []simContact {
	var list []simContact
	for _, r := range m.world.Requests() {
		for _, a := range r.Apps {
			if strings.EqualFold(a.ID, id) && a.MachineID == m.id && !r.Time.Before(since) {
				list = append(list, simContact{a, r.Time, string(r.Answer), !r.Unseen})
			}
		}
	}
	return list
}

// String is what was sent, in the order in which the server looks at it: "3/0:36 ping check".
func (c simContact) String() string {
	var parts []string
	for _, e := range c.Events {
		parts = append(parts, simEvent(e))
	}
	if c.Ping {
		parts = append(parts, "ping")
	}
	if c.Check {
		parts = append(parts, "check")
	}
	return strings.Join(parts, " ")
}

func simEvent(e testserver.Event) string {
	text := fmt.Sprintf("%d/%d", e.Type, e.Result)
	if e.Result == 0 {
		text += fmt.Sprintf(":%d", e.ErrorCode)
	}
	return text
}

func simWords(contacts []simContact) []string {
	var words []string
	for _, c := range contacts {
		words = append(words, c.String())
	}
	return words
}

// simChecks are the contacts that ask for an update.
func simChecks(contacts []simContact) []simContact {
	return slices.DeleteFunc(slices.Clone(contacts), func(c simContact) bool { return !c.Check })
}

// simEvents are the events in the order of their arrival.
func simEvents(contacts []simContact) []string {
	var list []string
	for _, c := range contacts {
		for _, e := range c.Events {
			list = append(list, simEvent(e))
		}
	}
	return list
}

// simFirst are the first n words, or what there is of them.
func simFirst(n int, words []string) []string { return words[:min(n, len(words))] }

// simHistory is what the server wrote down about an instance: "granted, downloading, error 9".
func simHistory(i testserver.Instance) string {
	var steps []string
	for _, e := range i.History {
		step := string(e.Status)
		if e.Status == testserver.Error {
			step += fmt.Sprintf(" %d", e.ErrorCode)
		}
		steps = append(steps, step)
	}
	return strings.Join(steps, ", ")
}

// pass lets virtual time go by, and everything that is due then happen.
func simPass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// simDeep chooses how large a story is: OMAHACLIENT_DEEP=1 is for those who have time.
func simDeep(quick, deep time.Duration) time.Duration {
	if os.Getenv("OMAHACLIENT_DEEP") != "" {
		return deep
	}
	return quick
}

// simUntil waits until cond holds.
func simUntil(t *testing.T, what string, limit time.Duration, cond func() bool) {
	t.Helper()
	synctest.Wait()
	for end := time.Now().Add(limit); !cond(); simPass(10 * time.Second) {
		if !time.Now().Before(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

func simWant[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v; want %v", what, got, want)
	}
}

func simList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q; want %q", what, got, want)
	}
}

func simNoError(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// simProgress is an event of a program's own that ends nothing.
func simProgress() omaha.Event {
	return omaha.Event{Type: omaha.EventTypeInstallStarted, Result: omaha.EventResultSuccess}
}

// groupOff switches the updates of the usual group off: nothing is granted any more.
func (w *simWorld) groupOff() {
	w.group.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
}
