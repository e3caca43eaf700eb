package omahaclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
)

// UpdateOffer is a fetched and verified update, waiting for its verdict. Copies share one verdict: the first of Ack,
// Installed and Defer counts, also under concurrency, and every later one returns ErrSettled. A verdict may be given
// after the channel has closed, until Client.Close (then ErrClosed). It returns once it is on disk; the report to the
// server follows by itself, across restarts if need be. If it cannot be written (disk full), the cause is returned, and
// the verdict stands in memory, is delivered, and is written again. A zero UpdateOffer returns ErrUnbound.
type UpdateOffer struct {
	AppID          string
	Channel        string
	CurrentVersion string
	Version        string
	Payloads       []fetcher.Payload // in the manifest's order, verified; the files stay at least until the offer is settled
	Manifest       omaha.Manifest    // as received: the server's word, also where a publisher vouched for the Payloads
	Attempt        int               // how often this version was handed over here, this time included (a crash may count one too many)

	offer *offer
}

// offer is what the copies of an UpdateOffer share.
type offer struct {
	client *Client
	app    *app
	update *state.Update // as granted

	since    time.Time   // of the first hand-over here; set before the offer is shown
	shown    UpdateOffer // what is handed over; the stream alone uses it
	received bool        // the stream alone uses it

	mu      sync.Mutex // guards settled
	settled bool
}

// Ack reports the outcome. nil means installed and running: the server is told that the update is complete, and from now
// on the offered version counts as the current one. ErrRestartRequired is the same as Installed. Any other error is the
// failure: it is reported with its code (see WithCode), and the version backs off.
func (o UpdateOffer) Ack(err error) error {
	if errors.Is(err, ErrRestartRequired) {
		return o.Installed()
	}
	var failure *Error
	if err != nil { // the program's own methods run here, before anything is settled: they may panic, or ask the Client
		failure = &Error{Op: "apply", Code: codeOf(err), Err: &toldError{err.Error(), err}}
	}
	return o.settle(func(c *Client, a *app, u *state.Update, now time.Time) error {
		if failure == nil {
			return c.succeed(a, u, now)
		}
		failure.AppID = a.id
		return c.fail(a, u, now, failure, true)
	})
}

// toldError is an error of the program's, with what it said when it was given to Ack.
type toldError struct {
	text string
	err  error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.err }

// Installed reports that the update is installed and takes effect at the next start of the program (with WithReboot: at
// the next boot). The next Client then finds out whether the new version runs, and reports success or failure. Until
// then the server counts the update as under way: a Nebraska group's update timeout must exceed the longest such wait.
func (o UpdateOffer) Installed() error {
	return o.settle(func(c *Client, a *app, u *state.Update, now time.Time) error {
		return c.install(a, u, now)
	})
}

// Defer says: not now. The grant is given back to the server (code 36: a grant that is held would block the group's
// other machines), the payload is kept, and for d the app only pings. Then it checks, and the update is offered again,
// without a download, if the server still grants that version. A d of zero or less means the next scheduled check.
func (o UpdateOffer) Defer(d time.Duration) error {
	return o.settle(func(c *Client, a *app, u *state.Update, now time.Time) error {
		return c.postpone(a, u, now, d)
	})
}

// StateDir returns the state directory of the offer's Client, for what an installer must remember over a crash; "" for a
// zero UpdateOffer. Names in it that begin with the installer's own are free for its use.
func (o UpdateOffer) StateDir() string {
	if o.offer == nil {
		return ""
	}
	return o.offer.client.StateDir()
}

// settle lets the first verdict through.
func (o UpdateOffer) settle(verdict func(*Client, *app, *state.Update, time.Time) error) error {
	s := o.offer
	if s == nil {
		return ErrUnbound
	}
	if !s.claim() {
		return ErrSettled
	}
	decided := false
	defer func() {
		if !decided { // a log handler panicked
			s.undecided()
		}
	}()
	err := verdict(s.client, s.app, s.update, time.Now())
	decided = true
	if errors.Is(err, state.ErrClosed) {
		s.release()
		return ErrClosed
	}
	s.client.settled(s)
	if err != nil {
		return fmt.Errorf("verdict on %s %s: %w", o.AppID, o.Version, err)
	}
	return nil
}

func (s *offer) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled {
		return false
	}
	s.settled = true
	return true
}

// undecided lets go of an offer whose verdict broke off: before the journal had it, or after.
func (s *offer) undecided() {
	if u := s.client.journal.Get(s.app.key).Update; u != nil && u.Seq == s.update.Seq {
		s.release()
		return
	}
	s.client.settled(s)
}

func (s *offer) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = false
}

func (s *offer) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.settled
}

// settled lets the app go on after the verdict on s.
func (c *Client) settled(s *offer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.app.offer == s {
		s.app.offer = nil
	}
	c.changed()
}

// show makes the UpdateOffer to hand over for what the journal holds.
func (c *Client) show(a *app, s *offer) error {
	rec := c.journal.Get(a.key)
	u := rec.Update
	if u == nil || u.Seq != s.update.Seq {
		return fmt.Errorf("version %s is no longer open", s.update.Version)
	}
	shown := UpdateOffer{
		AppID:          a.id,
		Channel:        u.Channel,
		CurrentVersion: u.Previous,
		Version:        u.Version,
		Attempt:        rec.Tried.Handed,
		offer:          s,
	}
	if err := errors.Join(json.Unmarshal(u.Manifest, &shown.Manifest), json.Unmarshal(u.Payloads, &shown.Payloads)); err != nil {
		return fmt.Errorf("journal of version %s: %w", u.Version, err)
	}
	s.shown = shown
	return nil
}
