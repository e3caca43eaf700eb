package omahaclient

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"time"

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

// indexPatience bounds the reading of a release index.
const indexPatience = 2 * time.Minute

// look reads the release indexes of the apps that have just been in contact with the server, each file once, and raises
// alarms.
func (c *Client) look(ctx context.Context, visits []*visit) {
	read := map[string]*signedIndex{}
	for _, v := range visits {
		a := v.app
		if a.releaseIndex == "" || !v.turn || a.leaving || ctx.Err() != nil {
			continue
		}
		index := read[a.releaseIndex]
		if index == nil {
			index = c.readIndex(ctx, a)
			read[a.releaseIndex] = index
		}
		c.newest(ctx, a, index)
	}
	for _, v := range visits {
		if ctx.Err() == nil && !v.app.leaving {
			c.watch(v.app, time.Now())
		}
	}
}

type signedIndex struct {
	signed trust.Signed
	err    error
}

func (c *Client) readIndex(ctx context.Context, a *app) *signedIndex {
	dir, err := c.dir.TrustDir(a.key)
	if err != nil {
		return &signedIndex{err: err}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, indexPatience, fmt.Errorf("it did not come within %v", indexPatience))
	defer cancel()
	u, err := url.Parse(a.releaseIndex)
	if err != nil {
		return &signedIndex{err: err} // validated: cannot be
	}
	s, err := c.read(ctx, dir, place{a.releaseIndex, beside(*u, trust.IndexSignatureSuffix)})
	return &signedIndex{s, err}
}

// newest notes which release the index names.
func (c *Client) newest(ctx context.Context, a *app, index *signedIndex) {
	head, err := trust.Head{}, index.err
	if err == nil {
		head, err = c.head(a, index.signed)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		c.cfg.logger.Warn("release index not usable", "app_id", a.id, "index", shownAddress(a.releaseIndex), "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.indexErr = err; err == nil {
		a.head, a.headAt = head, time.Now()
	}
}

func (c *Client) head(a *app, signed trust.Signed) (trust.Head, error) {
	dir, err := c.dir.TrustDir(a.key)
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
	return f.Answer.Sub(on.Answer) > enough || f.Head.Sub(on.Head) > enough
}

// known brings what was known of the app's freshness up to date. mu is held.
func (c *Client) known(a *app, rec *state.App, now time.Time) fresh {
	f := fresh{state.Fresh{Answer: now, Head: now}}
	if rec.Fresh != nil {
		f.Fresh = *rec.Fresh
	}
	// A clock that was put back must not silence the alarms.
	f.Answer, f.Head = earlier(f.Answer, now), earlier(f.Head, now)
	f.Answer, f.Head = newer(f.Answer, a.answered), newer(f.Head, a.headAt)
	if a.headAt.IsZero() {
		return f
	}
	cmp, semantic := omaha.CompareVersions(a.head.Version, a.current)
	switch {
	case a.head.Version == a.current || semantic && cmp <= 0:
		f.Version, f.Behind = "", time.Time{}
	case a.head.Version != f.Version && f.Version == "":
		f.Version, f.Behind = a.head.Version, now
	default: // a still newer release does not make the wait for the first one shorter
		f.Version = a.head.Version
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
	case a.releaseIndex != "" && now.Sub(f.Head) >= limit:
		s = &Staleness{Since: f.Head, Reason: "no fresh release index"}
		if a.indexErr != nil {
			s.Reason += ": " + a.indexErr.Error()
		}
	case f.Version != "" && now.Sub(f.Behind) >= limit && !a.gated && !a.ownDoing(rec, f.Version):
		s = &Staleness{Since: f.Behind, Reason: fmt.Sprintf("version %s is released, and the update server does not offer it", f.Version)}
	default:
		a.stale, a.alarmed = nil, time.Time{}
		return nil, false
	}
	s.AppID = a.id
	a.stale = s
	if !a.alarmed.IsZero() && now.Sub(a.alarmed) < limit {
		return s, false
	}
	a.alarmed = now
	return s, true
}

// ownDoing reports whether it is not the server that keeps the version away: it is at work here, waits or failed here. Client.mu
// is held.
func (a *app) ownDoing(rec *state.App, version string) bool {
	switch {
	case a.offer != nil: // its verdict may be in the journal, and not yet in memory
		return sameVersion(a.offer.update.Version, version)
	case rec.Update != nil:
		return sameVersion(rec.Update.Version, version)
	case rec.Pending != nil:
		return sameVersion(rec.Pending.Version, version)
	case rec.Wait != nil && rec.Wait.Kind != state.WaitRefused:
		return sameVersion(rec.Wait.Version, version)
	default:
		return false
	}
}
