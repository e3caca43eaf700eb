package omahaclient

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nebraska/omahaclient/internal/state"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/trust"
)

// Staleness says that an app may be kept from updates (WithMaxStaleness).
type Staleness struct {
	AppID  string
	Since  time.Time // of the last good sign; of the first look where there never was one
	Reason string    // in plain words
}

const (
	// indexPatience bounds the reading of a release index.
	indexPatience = 2 * time.Minute
	// indexReaders is how many indexes are read at the same time: one host that is silent holds up no other.
	indexReaders = 8
)

// look reads the release indexes of the apps that have just been in contact with the server, each file once, and raises
// alarms.
func (c *Client) look(ctx context.Context, visits []*visit) {
	read := map[string]*signedIndex{}
	var readers errgroup.Group
	readers.SetLimit(indexReaders)
	for _, v := range visits {
		at := v.app.releaseIndex
		if at == "" || !v.turn || v.app.leaving || read[at] != nil || ctx.Err() != nil {
			continue
		}
		index := &signedIndex{}
		read[at] = index
		readers.Go(func() error {
			*index = c.readIndex(ctx, at)
			return nil // what went wrong is a matter of that index
		})
	}
	_ = readers.Wait()
	for _, v := range visits {
		if index := read[v.app.releaseIndex]; index != nil && v.turn && !v.app.leaving {
			c.newest(ctx, v.app, *index)
		}
	}
	for _, v := range visits { // also where ctx has ended: a host that is silent until then must not silence the alarm
		if !v.app.leaving {
			c.watch(v.app, time.Now().Round(0)) // by the wall clock, as in note
		}
	}
}

type signedIndex struct {
	signed trust.Signed
	err    error
}

func (c *Client) readIndex(ctx context.Context, at string) signedIndex {
	ctx, cancel := context.WithTimeoutCause(ctx, indexPatience, fmt.Errorf("it did not come within %v", indexPatience))
	defer cancel()
	u, err := url.Parse(at)
	if err != nil {
		return signedIndex{err: err} // validated: cannot be
	}
	s, err := c.read(ctx, place{at, beside(*u, trust.IndexSignatureSuffix)})
	return signedIndex{s, err}
}

// newest notes which release the index names.
func (c *Client) newest(ctx context.Context, a *app, index signedIndex) {
	head, err := trust.Head{}, index.err
	if err == nil {
		head, err = c.head(a, index.signed)
	}
	if err != nil && ctx.Err() == nil {
		c.cfg.logger.Warn("release index not usable", "app_id", a.id, "index", shownAddress(a.releaseIndex), "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.indexErr = err; err == nil {
		a.head, a.headAt = head, time.Now().Round(0)
	}
}

func (c *Client) head(a *app, signed trust.Signed) (trust.Head, error) {
	dir, err := c.trustDir(a)
	if err != nil {
		return trust.Head{}, err
	}
	if len(a.indexKeys) > 0 { // other keys have a memory of their own
		dir = filepath.Join(dir, "index")
	}
	return a.heads.Index(trust.Claim{AppID: a.id, Channel: a.channel, Arch: runtime.GOARCH, Now: c.clock(), Dir: dir}, signed)
}

// watch compares what is known of the app with what WithMaxStaleness allows, keeps that across restarts, and raises the alarm.
func (c *Client) watch(a *app, now time.Time) {
	if c.cfg.staleness == 0 {
		return
	}
	rec := c.journal.Get(a.key)
	c.mu.Lock()
	known := c.known(a, rec, now)
	stale, alarm := c.stale(a, rec, known, now)
	c.mu.Unlock()
	if known.differs(rec.Fresh, c.cfg.staleness/8) {
		c.noteUnwritten(a, c.journal.Do(a.key, func(rec *state.App) error { return rec.Watch(known.Fresh) }))
	}
	if !alarm {
		return
	}
	c.cfg.logger.Warn("the app may be kept from updates", "app_id", a.id, "since", stale.Since, "reason", stale.Reason)
	if c.cfg.alarm != nil {
		c.alarming.Lock()
		defer c.alarming.Unlock()
		c.cfg.alarm(*stale)
	}
}

// fresh is state.Fresh with what this process has seen since.
type fresh struct{ state.Fresh }

func (f fresh) differs(on *state.Fresh, enough time.Duration) bool {
	if on == nil || f.Version != on.Version {
		return true
	}
	moved := func(to, from time.Time) bool { return to.Before(from) || to.Sub(from) > enough }
	return moved(f.Answer, on.Answer) || moved(f.Head, on.Head) || f.Behind.Before(on.Behind)
}

// known brings what was known of the app's freshness up to date. mu is held.
func (c *Client) known(a *app, rec *state.App, now time.Time) fresh {
	f := fresh{state.Fresh{Answer: now, Head: now}}
	if rec.Fresh != nil {
		f.Fresh = *rec.Fresh
	}
	f.Answer, f.Head = newer(f.Answer, a.answered), newer(f.Head, a.headAt)
	if a.releaseIndex == "" {
		f.Head = f.Answer // its time begins when there is one
	}
	if head := a.head.Version; head != "" && head != f.Version {
		if f.Version == "" { // a still newer release does not make the wait for the first one shorter
			f.Behind = now
		}
		f.Version = head
	}
	if cmp, semantic := omaha.CompareVersions(f.Version, a.current); f.Version == a.current || semantic && cmp <= 0 {
		f.Version, f.Behind = "", time.Time{}
	}
	// A clock that was put back must not silence the alarms.
	for _, t := range []*time.Time{&f.Answer, &f.Head, &f.Behind, &a.answered, &a.headAt, &a.alarmed} {
		*t = earlier(*t, now)
	}
	return f
}

func newer(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// stale judges, and says whether to raise the alarm (again). mu is held.
func (c *Client) stale(a *app, rec *state.App, f fresh, now time.Time) (*Staleness, bool) {
	var s *Staleness
	limit := c.cfg.staleness
	switch {
	case now.Sub(f.Answer) >= limit:
		s = &Staleness{Since: f.Answer, Reason: "no authentic answer from the update server"}
		if a.err != nil {
			s.Reason += ": " + a.err.Error()
		}
	case a.indexErr != nil && now.Sub(f.Head) >= limit:
		s = &Staleness{Since: f.Head, Reason: "no fresh release index: " + a.indexErr.Error()}
	case f.Version == "" || now.Sub(f.Behind) < limit:
		a.stale, a.alarmed = nil, time.Time{}
		return nil, false
	case a.ownDoing(rec, f, limit, now), rec.Update != nil && now.Sub(rec.Update.At) < limit/4: // just granted: how that goes will show
		a.stale = nil
		return nil, false
	default:
		s = &Staleness{Since: f.Behind, Reason: keptBack(rec, f.Version, now)}
	}
	s.AppID = a.id
	a.stale = s
	if !a.alarmed.IsZero() && now.Sub(a.alarmed) < limit {
		return s, false
	}
	a.alarmed = now
	return s, true
}

// ownDoing reports whether the server is not asked, and why is no fault of its: the gate is closed, the program has an
// update before it, or wants to wait. A release that failed here, or is still being fetched, is none of these: whoever spoils or slows down what it
// is fetched from keeps it back as well. Nor is one that ripens, once the release that the index names could have done so: what ripens is
// the server's choice, before anything is verified, and it could offer something else each time. Client.mu is held.
func (a *app) ownDoing(rec *state.App, f fresh, limit time.Duration, now time.Time) bool {
	w := rec.Wait
	if a.gated || a.offer != nil || rec.Pending != nil || rec.Update != nil && rec.Update.Phase == state.Offered {
		return true
	}
	return w.Active(now) && (w.Kind == state.WaitDefer || w.Kind == state.WaitAge && now.Sub(f.Behind)-limit < a.minAge)
}

// keptBack says what becomes of a version that the index names.
func keptBack(rec *state.App, version string, now time.Time) string {
	w := rec.Wait
	switch {
	case rec.Update != nil: // as slowly as is still allowed, say
		return fmt.Sprintf("version %s is released, and version %s is still being fetched since %s", version, rec.Update.Version, rec.Update.At.Format(time.RFC3339))
	case w == nil || !sameVersion(w.Version, version):
		return fmt.Sprintf("version %s is released, and the update server does not offer it", version)
	case w.Active(now):
		return fmt.Sprintf("version %s is released, and cannot be had: %s", version, describeWait(w))
	default:
		return fmt.Sprintf("version %s is released, and the update server does not offer it (it did once: %s)", version, w.Reason)
	}
}
