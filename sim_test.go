package omahaclient_test

import (
	"context"
	"errors"
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

// simPublish gives a group a release of one small file.
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

func simFails(o omahaclient.UpdateOffer) error { return o.Ack(errSimBroken) }

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

// simProgress is an event of a program's own that ends nothing.
func simProgress() omaha.Event {
	return omaha.Event{Type: omaha.EventTypeInstallStarted, Result: omaha.EventResultSuccess}
}

// groupOff switches the updates of the usual group off: nothing is granted any more.
func (w *simWorld) groupOff() {
	w.group.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
}
