package omahaclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/pool"
	"github.com/nebraska/omahaclient/trust"
)

// Client keeps one or more apps up to date from one Omaha server. Make it with New, range over Updates, settle each
// offer, and Close it. It is safe for concurrent use.
type Client struct {
	cfg     *config
	server  *omaha.Client
	dir     *state.Dir
	journal *state.Journal
	pool    *pool.Pool[string, fetcher.Payload]
	boot    string // of this machine's boot; "" where the system does not say
	bootID  string // as sent: boot, or one of this process

	alarming sync.Mutex // held while the program's alarm is called

	calls sync.WaitGroup // streams and calls that Close waits for
	done  chan struct{}  // closed by Close

	// mu guards what follows, and the fields of app that say so. It is never held while waiting. The journal may be read
	// under it; so no transition (journal.Do) may take it.
	mu      sync.Mutex
	apps    []*app // in the order of the options
	byKey   map[string]*app
	leaving map[string]*app // apps in the journal that are no longer configured, until their reports are delivered
	agenda  agenda          // of apps and leaving; empty unless a stream is open
	stream  *stream         // the open one
	lastErr error           // what ended the last stream
	change  chan struct{}   // closed and replaced at each change that somebody may wait for
	closing bool
	copies  map[string]string                     // where finished payloads lie, by what they are
	cancels map[*context.CancelCauseFunc]struct{} // of streams and calls under way
}

// app is an app's state in memory; what must survive is in the journal.
type app struct {
	appConfig
	key     string
	leaving bool // no longer configured: report and forget

	// Guarded by Client.mu:
	current  string    // version that runs, as reported
	due      time.Time // next scheduled contact
	earliest time.Time // from when on it may ride along with another app's
	retry    time.Time // next try to deliver reports; zero: none to deliver, or they wait for due
	index    int       // in the agenda
	busy     bool      // a contact with the server is under way
	checking bool      // and it checks
	fetching bool      // its fetch runs
	solo     bool      // made the server drop other apps of its request: gets one of its own
	once     bool      // still to be checked in this round of UpdatesOnce
	urgent   bool      // wants a check although its turn has not come (a stale offer was given back)
	lastPing time.Time
	checked  time.Time // last answered check
	failures *failures // of contacts in a row; nil while all is well
	untaken  int       // answers in a row that acknowledged none of its reports, although the server had nothing against the app
	givenUp  uint64    // number of the last report that was dropped for that
	session  string    // of the update flow
	offer    *offer    // open
	reason   string    // from the last answer; "" if it says nothing
	err      error     // of the last check or attempt
	refusal  error     // the server's, of the reports in the outbox

	answered time.Time // last authentic answer
	head     trust.Head
	headAt   time.Time // when head was read
	indexErr error     // why it could not be read last
	gated    bool      // the gate was closed at the last check that was due
	stale    *Staleness
	alarmed  time.Time // of the last alarm; zero while all is well
}

// next returns when the app is due for any contact.
func (a *app) next() time.Time {
	if !a.retry.IsZero() && a.retry.Before(a.due) {
		return a.retry
	}
	return a.due
}

// New validates the options, opens the state directory and returns a Client. The endpoint is the server's absolute http
// or https URL, such as https://updates.example.com/v1/update/.
//
// New sends nothing and starts no goroutine. Every mistake in its arguments is reported at once (errors.Join), each
// wrapping ErrInvalidOption; a state directory in use gives ErrStateLocked. A journal that is damaged, or belongs to
// another machine, is set aside and logged. The Client must be closed.
func New(endpoint string, opts ...Option) (*Client, error) {
	cfg, err := newConfig(endpoint, opts)
	if err != nil {
		return nil, err
	}
	dir, err := openState(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg:     cfg,
		dir:     dir,
		journal: dir.Journal,
		pool:    pool.New[string, fetcher.Payload](cfg.workers),
		boot:    cmp.Or(cfg.boot, state.BootID()),
		done:    make(chan struct{}),
		byKey:   make(map[string]*app, len(cfg.apps)),
		leaving: map[string]*app{},
		change:  make(chan struct{}),
		copies:  map[string]string{},
		cancels: map[*context.CancelCauseFunc]struct{}{},
	}
	if c.bootID = c.boot; c.boot == "" {
		c.bootID = omaha.NewID()
	}
	c.guardCallbacks()
	c.server = newServer(cfg)
	for i := range cfg.apps {
		a := &app{appConfig: cfg.apps[i], key: appKey(cfg.apps[i].id), index: absent}
		c.apps = append(c.apps, a)
		c.byKey[a.key] = a
	}
	cfg.apps = nil
	if cfg.built.IsZero() {
		cfg.built = buildTime()
	}
	if cfg.fetchers[typeBinary] == nil {
		cfg.fetchers[typeBinary] = &fetcher.HTTP{Logger: cfg.logger}
	}
	if cfg.fetchers[typeImage] == nil {
		cfg.fetchers[typeImage] = &fetcher.OCI{Logger: cfg.logger}
	}
	if err := c.restart(time.Now()); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return c, nil
}

func openState(cfg *config) (*state.Dir, error) {
	path, err := state.Resolve(cfg.stateDir, cfg.apps[0].id)
	if err != nil {
		return nil, fmt.Errorf("%w: WithStateDir: %w", ErrInvalidOption, err)
	}
	dir, err := state.Open(path, cfg.machineID, cfg.logger)
	if err != nil {
		return nil, fmt.Errorf("open state directory %s: %w", path, err)
	}
	return dir, nil
}

func newServer(cfg *config) *omaha.Client {
	s := &omaha.Client{
		Endpoint:     cfg.endpoint,
		HTTP:         cfg.httpClient,
		Authorize:    cfg.authorize,
		CUPKeys:      cfg.cupKeys,
		Logger:       cfg.logger,
		RetryWaitMin: min(time.Second, cfg.schedule.Min), // short schedules want short waits
		RetryWaitMax: min(30*time.Second, cfg.schedule.Max),
	}
	if !cfg.aliasGiven {
		if name, err := os.Hostname(); err == nil && plain(name, maxMachineAlias, true) {
			cfg.alias = name
		}
	}
	return s
}

// Err returns nil while a stream is open and before the first one; afterwards what ended the last stream: the cause of
// its ctx (of a round of UpdatesOnce joined with the failures that it was waiting to pass), ErrClosed, or for a round that ended by
// itself its failures (nil if there were none).
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil {
		return nil
	}
	return c.lastErr
}

// StateDir returns the directory that the Client keeps its state in, an absolute path (see WithStateDir).
func (c *Client) StateDir() string { return c.dir.Path }

// closePatience is how long Close tries to deliver what is still to be reported.
const closePatience = 5 * time.Second

// Close ends the streams (cause ErrClosed) and waits for them, tries once more, for at most 5 seconds, to deliver the
// reports that are left, and releases the state directory. What could not be delivered is by the next Client on that
// directory. Close may be called more than once, and by several goroutines: all return when it is done.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		<-c.done
		return nil
	}
	c.closing = true
	for cancel := range c.cancels {
		(*cancel)(ErrClosed)
	}
	c.mu.Unlock()
	c.calls.Wait()
	defer close(c.done)

	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	if err := c.deliver(ctx, c.queued(c.reporting()), true); err != nil {
		c.cfg.logger.Info("reports left for the next start", "error", err)
	}
	c.server.CloseIdleConnections()
	for _, f := range c.cfg.fetchers {
		if f, ok := f.(interface{ CloseIdleConnections() }); ok {
			f.CloseIdleConnections()
		}
	}
	return c.dir.Close()
}

// enter begins a call or stream that Close is to end: the context returned also ends with the Client. leave must be
// called when it is over.
func (c *Client) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		cancel(ErrClosed)
		return nil, nil, ErrClosed
	}
	c.calls.Add(1)
	c.cancels[&cancel] = struct{}{}
	return ctx, func() {
		c.mu.Lock()
		delete(c.cancels, &cancel)
		c.mu.Unlock()
		cancel(nil)
		c.calls.Done()
	}, nil
}

// changed wakes everybody who waits for a change. mu is held.
func (c *Client) changed() {
	close(c.change)
	c.change = make(chan struct{})
}

// find returns the configured apps with these ids; all of them for none.
func (c *Client) find(ids []string) ([]*app, error) {
	if len(ids) == 0 {
		return c.apps, nil
	}
	var found []*app
	var errs []error
	seen := map[*app]bool{}
	for _, id := range ids {
		a := c.byKey[appKey(id)]
		if a == nil {
			errs = append(errs, fmt.Errorf("%w %q: name it with WithApp", ErrUnknownApp, id))
		} else if !seen[a] {
			seen[a] = true
			found = append(found, a)
		}
	}
	return found, errors.Join(errs...)
}
