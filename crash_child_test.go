package omahaclient_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/omaha"
)

// crashChildEnv holds the crashLife of the child process, which is this test binary again.
const crashChildEnv = "OMAHACLIENT_CRASH_CHILD"

// The child's exit codes.
const (
	exitDone    = 0
	exitRestart = 10 // something was installed that takes effect at the next start
	exitNew     = 11 // New refused to work
	exitClose   = 12 // Close could not write the journal
)

// crashLife tells the child what to be.
type crashLife struct {
	URL, Dir  string
	Boot      string
	Apps      []crashApp
	Once      bool   // a round instead of a stream
	CheckNow  bool   // once the stream is open
	Event     string // a version to send in an event of the program's own; "" for none
	Waits     bool   // and whether to wait for its delivery
	EventSize int    // bytes of the version that it names as the next one, for a journal that is to grow

	Point string // where to die: the Nth time that it passes this point, any point for ""
	Nth   int    // 0: nowhere

	Deploy time.Duration // how long a deployment takes

	FullAt, FullFor int // the disk is full from this journal transaction on, for so many
}

// crashApp is an app of the child.
type crashApp struct {
	ID, Version string
	Kind        appKind
}

type appKind string

const (
	plainApp  appKind = "plain"  // the journal keeps its version; Ack(nil)
	selfApp   appKind = "self"   // updates itself at once: runs the new version before Ack(nil)
	stagedApp appKind = "staged" // Installed, runs from the next start on
	bootedApp appKind = "booted" // Installed, runs from the next boot on, confirmed by hand
)

// device is the child process.
type device struct {
	crashLife
	client  *omahaclient.Client
	restart context.CancelCauseFunc
	work    sync.WaitGroup
	again   atomic.Bool // exit with exitRestart
	demand  atomic.Bool // a CheckNow is still to come

	mu     sync.Mutex // guards what follows and standard output
	passed map[string]bool
	near   int  // points passed that are Point
	writes int  // journal transactions that began
	lifted bool // the disk is not full any more
}

// crashChild is the child process' main.
func crashChild(spec string) int {
	d := &device{passed: map[string]bool{}}
	if err := json.Unmarshal([]byte(spec), &d.crashLife); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	d.sayf("ready")
	c, err := d.newClient()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitNew
	}
	d.client = c
	ctx, restart := context.WithCancelCause(context.Background())
	d.restart = restart
	d.point("started")
	d.others(ctx)
	d.serve(ctx)
	d.work.Wait()
	d.point("ended")
	d.lift()
	if err := c.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitClose
	}
	d.point("closed")
	list, err := json.Marshal(plainStatus(c.Status()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	d.sayf("status %s", list)
	if d.again.Load() {
		return exitRestart
	}
	return exitDone
}

// plainStatus leaves out what JSON cannot carry.
func plainStatus(list []omahaclient.AppStatus) []omahaclient.AppStatus {
	for i := range list {
		if list[i].LastError != nil {
			list[i].Reason += "; last error: " + list[i].LastError.Error()
			list[i].LastError = nil
		}
	}
	return list
}

func (d *device) newClient() (*omahaclient.Client, error) {
	transport := &http.Transport{}
	opts := []omahaclient.Option{
		omahaclient.WithStateDir(d.Dir), omahaclient.WithMachineAlias("crash"), omahaclient.WithBootID(d.Boot),
		omahaclient.WithSchedule(omahaclient.Schedule{
			FirstMin: time.Millisecond, FirstMax: 3 * time.Millisecond, Min: 10 * time.Millisecond, Max: 20 * time.Millisecond,
		}),
		omahaclient.WithHTTPClient(&http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) { return d.roundTrip(transport, r) })}),
		omahaclient.WithFetcher("binary", d),
		omahaclient.WithLogger(slog.New(d)),
	}
	for _, a := range d.Apps {
		app := []omahaclient.AppOption{omahaclient.WithChannel(track)}
		if a.Kind == bootedApp {
			app = append(app, omahaclient.WithReboot(), omahaclient.WithManualConfirm())
		}
		opts = append(opts, omahaclient.WithApp(a.ID, a.Version, app...))
	}
	return omahaclient.New(d.URL, opts...)
}

// sayf writes a line to the parent. A pipe to a process that lives is as durable as a file that is synced.
func (d *device) sayf(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sayLockedf(format, args...)
}

func (d *device) sayLockedf(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "%d "+format+"\n", append([]any{time.Now().UnixNano()}, args...)...)
}

// point is where the child may die.
func (d *device) point(name string) {
	if !d.fatal(name) {
		return
	}
	if strings.HasPrefix(name, "before: ") {
		<-time.After(slowDisk)
	}
	d.mu.Lock() // nobody passes another point, nor says anything, on the way out
	d.sayLockedf("dying %s", name)
	self, _ := os.FindProcess(os.Getpid())
	_ = self.Kill()
	select {}
}

// slowDisk is how long the last transaction of a child takes, before it dies without it: time enough for all that must not show
// before it is on disk.
const slowDisk = 60 * time.Millisecond

// fatal notes that the child passes a point, and reports whether it is its last.
func (d *device) fatal(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.passed[name] {
		d.passed[name] = true
		d.sayLockedf("point %s", name)
	}
	if d.Point == "" || d.Point == name {
		d.near++
		return d.near == d.Nth
	}
	return false
}

// serve is the program proper: it takes each offer, as long as the parent lets it.
func (d *device) serve(ctx context.Context) {
	if d.waitsForRestart() {
		d.again.Store(true)
		return
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // it ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		d.lift()
		flush, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_ = d.client.Flush(flush) // what is left shows in the status
		stop()
	}()
	offers := d.client.Updates
	if d.Once {
		offers = d.client.UpdatesOnce
	}
	d.demand.Store(d.CheckNow)
	for o := range offers(ctx) {
		d.sayf("offered %s %s %d", o.AppID, o.Version, o.Attempt)
		d.point("offered")
		d.work.Go(func() { d.take(o) })
	}
	d.demand.Store(false)
	d.point("stream ended")
}

// waitsForRestart reports whether a start has not brought an installed version to life: another start must.
func (d *device) waitsForRestart() bool {
	for _, s := range d.client.Status() {
		if s.Phase == omahaclient.RestartPending && !strings.Contains(s.Reason, "Confirm") {
			return true
		}
	}
	return false
}

// others are the things that a program does beside its stream.
func (d *device) others(ctx context.Context) {
	for _, a := range d.Apps {
		if a.Kind == bootedApp {
			d.confirm(a.ID)
		}
	}
	if d.Event != "" {
		d.work.Go(func() { d.send(ctx, d.Apps[0].ID) })
	}
}

func (d *device) confirm(id string) {
	for _, s := range d.client.Status() {
		if s.AppID != id || s.Phase != omahaclient.RestartPending || !strings.Contains(s.Reason, "Confirm") {
			continue
		}
		d.sayf("deciding %s %s %s", id, s.Target, confirmed)
		d.verdict(id, s.Target, confirmed, d.client.Confirm(id))
	}
}

func (d *device) send(ctx context.Context, id string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !d.Waits {
		cancel() // queued all the same
	}
	err := d.client.SendEvent(ctx, id, omaha.Event{Type: omaha.EventTypeInstallComplete, Result: omaha.EventResultSuccess, PreviousVersion: d.Event, NextVersion: strings.Repeat("9", d.EventSize)})
	var refused *omahaclient.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, &refused): // it is in the outbox in any case
		d.sayf("sent %s %s", id, d.Event)
	}
	d.point("event sent")
}

// take deploys an offer and settles it, in the way that the version's last number says.
func (d *device) take(o omahaclient.UpdateOffer) {
	for _, p := range o.Payloads {
		got, err := os.ReadFile(p.Path)
		if err != nil || !bytes.Equal(got, crashContent(o.AppID, o.Version, p.Name)) {
			d.sayf("corrupt %s %s %v", o.AppID, o.Version, err)
		}
	}
	d.sayf("applying %s %s", o.AppID, o.Version)
	d.point("applying")
	<-time.After(d.Deploy)
	switch how := dispositionOf(o.Version); {
	case how == failing:
		d.sayf("deciding %s %s %s", o.AppID, o.Version, ackedError)
		d.verdict(o.AppID, o.Version, ackedError, o.Ack(omahaclient.WithCode(errors.New("it does not start"), applyFailed)))
	case how == deferring && o.Attempt == 1:
		d.sayf("deciding %s %s %s", o.AppID, o.Version, deferred)
		d.verdict(o.AppID, o.Version, deferred, o.Defer(20*time.Millisecond))
	case d.kind(o.AppID) == plainApp:
		d.ack(o)
	case d.kind(o.AppID) == selfApp:
		d.sayf("runs %s %s", o.AppID, o.Version)
		d.point("runs")
		d.ack(o)
	default:
		d.sayf("staged %s %s", o.AppID, o.Version)
		d.point("staged")
		d.sayf("deciding %s %s %s", o.AppID, o.Version, installed)
		err := o.Installed()
		d.verdict(o.AppID, o.Version, installed, err)
		d.again.Store(true)
		d.restart(errors.New("installed"))
	}
}

func (d *device) ack(o omahaclient.UpdateOffer) {
	d.sayf("deciding %s %s %s", o.AppID, o.Version, acked)
	d.verdict(o.AppID, o.Version, acked, o.Ack(nil))
}

// verdict says how a verdict went: what has returned nil is a promise.
func (d *device) verdict(id, version string, v verdict, err error) {
	if err == nil {
		d.sayf("settled %s %s %s", id, version, v)
	} else {
		d.sayf("unsettled %s %s %s %v", id, version, v, err)
	}
	d.point("verdict " + string(v))
}

func (d *device) kind(id string) appKind {
	for _, a := range d.Apps {
		if a.ID == id {
			return a.Kind
		}
	}
	return ""
}

// Fetch implements fetcher.Fetcher. What has been fetched is said before the library knows it.
func (d *device) Fetch(ctx context.Context, job fetcher.Job) (fetcher.Payload, error) {
	d.point("fetching")
	p, err := fetcher.HTTP{StallTimeout: 100 * time.Millisecond, RetryWait: 5 * time.Millisecond, Tries: 3}.Fetch(ctx, job)
	if err != nil {
		d.point("fetch failed")
		return p, err
	}
	if u, err := url.Parse(job.Source.URLs[0]); err == nil {
		d.sayf("fetched %s", strings.TrimPrefix(u.Path, "/"))
	}
	d.point("fetched")
	return p, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// roundTrip makes points of what goes to the Omaha server and comes from there.
func (d *device) roundTrip(transport http.RoundTripper, r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	what := "ping"
	if bytes.Contains(body, []byte("<updatecheck")) {
		what = "check"
	}
	if bytes.Contains(body, []byte("<event")) {
		what += " with events"
	}
	d.point("asking: " + what)
	resp, err := transport.RoundTrip(r)
	if err != nil {
		d.point("unanswered: " + what)
		return nil, err
	}
	d.point("answered: " + what)
	if d.demand.CompareAndSwap(true, false) { // the stream is open now
		d.work.Go(func() { _ = d.client.CheckNow(context.Background()) })
	}
	return resp, nil
}
