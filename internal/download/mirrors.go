package download

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// mirror is one URL of the blob, and what happened there.
type mirror struct {
	url   *url.URL
	key   string // see mirrorKey
	label string // for errors and logs

	tries    int   // requests made
	failures int   // in a row
	bad      int   // mismatches
	poor     int   // tries that brought bytes, but under the floor rate
	restarts int   // times it made us start over
	whole    bool  // it cannot do ranges: ask for all
	cleared  bool  // it was given a clean start after a mismatch that may not be its own
	last     error // of the last try
	wrong    error // of the last mismatch

	ready time.Time // not before
	stay  bool      // it is its turn, even if others are ready
	pause backoff.BackOff
}

// mirrors is a queue: its front is the next one to be tried. Those that are out are kept for the report.
type mirrors struct {
	limits   Limits
	queue    []*mirror
	all      []*mirror
	mismatch int // in all
}

func newMirrors(urls []string, limits Limits) *mirrors {
	ms := &mirrors{limits: limits}
	seen := map[string]bool{}
	for _, raw := range urls {
		if seen[raw] {
			continue
		}
		seen[raw] = true
		u, label, err := address(raw)
		m := &mirror{url: u, key: mirrorKey(raw), label: label, last: err, pause: newBackoff(limits)}
		ms.all = append(ms.all, m)
		if err == nil {
			ms.queue = append(ms.queue, m)
		}
	}
	return ms
}

// address reads where a blob is. label is what may be shown of it, whatever is wrong with it.
func address(raw string) (u *url.URL, label string, err error) {
	u, err = url.Parse(raw)
	if err != nil { // its text would show the URL, and what is secret in it
		return nil, "a URL", finalf("it cannot be parsed: correct it on the server")
	}
	return u, redact(u), checkURL(u)
}

// Usable says whether one at least of the addresses could be asked: ErrBadURL, and why the first cannot be, where none could.
func Usable(urls []string) error {
	var first error
	for _, raw := range urls {
		_, label, err := address(raw)
		switch {
		case err == nil:
			return nil
		case first == nil && !strings.Contains(raw, "://"):
			first = fmt.Errorf("%w: %s has no http:// or https:// in front", ErrBadURL, label)
		case first == nil:
			first = fmt.Errorf("%w: %s: %w", ErrBadURL, label, err)
		}
	}
	if first == nil {
		return fmt.Errorf("%w: there is none: add one to the package on the server", ErrBadURL)
	}
	if more := len(urls) - 1; more > 0 {
		return fmt.Errorf("%w; nor can %d more be used", first, more)
	}
	return first
}

func newBackoff(l Limits) backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(l.RetryWait),
		backoff.WithMaxInterval(l.RetryWaitMax),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxElapsedTime(l.GiveUp),
	)
}

// next picks the mirror to be tried and says how long to wait before; nil when none is left.
func (ms *mirrors) next(now time.Time) (*mirror, time.Duration) {
	if len(ms.queue) == 0 {
		return nil, 0
	}
	best := ms.queue[0]
	for _, m := range ms.queue {
		if best.stay || !best.ready.After(now) {
			break
		}
		if m.ready.Before(best.ready) {
			best = m
		}
	}
	return best, best.ready.Sub(now)
}

// failed books a failed try of m that brought received bytes in took, the wait before it included.
func (ms *mirrors) failed(m *mirror, f *failure, received int64, took time.Duration, now time.Time) {
	m.last, m.stay = f.err, false
	poor := tooSlow(received, took, ms.limits.MinSpeed)
	if received > 0 && poor {
		m.poor++
	}
	if received > 0 && !(poor && errors.Is(f.err, ErrTooSlow)) {
		m.failures = 0
		m.pause.Reset()
	}
	m.failures++
	wait := m.pause.NextBackOff()
	out := f.class == final || m.failures >= ms.limits.Tries || m.poor >= maxPoor || wait == backoff.Stop
	switch f.class {
	case busy:
		wait = max(wait, f.after)
		out = out || f.after > ms.limits.MaxRetryAfter
	case mismatch:
		wait, out = 0, ms.wrong(m, f.err)
	case transient:
		m.stay = true
	default: // the others first
	}
	m.ready = now.Add(wait)
	switch {
	case out:
		ms.drop(m)
	case !m.stay:
		ms.drop(m)
		ms.queue = append(ms.queue, m)
	}
}

// wrong books a mismatch and says whether m is out. A mirror gets a second chance when the others had their first (a bad cache, a
// bad link), but one such chance is all that they have together: each can cost a whole download.
func (ms *mirrors) wrong(m *mirror, err error) (out bool) {
	m.wrong = err
	m.bad++
	ms.mismatch++
	if ms.mismatch > len(ms.all) {
		ms.queue = slices.DeleteFunc(ms.queue, func(o *mirror) bool { return o.bad > 0 })
		return true
	}
	return m.bad > 1
}

// err reports every mirror.
func (ms *mirrors) err() error {
	if len(ms.all) == 0 {
		return errors.New("no URL to fetch it from: add one to the package on the server")
	}
	e := &Error{}
	for _, m := range ms.all {
		err := m.last
		if m.wrong != nil && !errors.Is(err, m.wrong) {
			err = fmt.Errorf("%w; before that: %w", err, m.wrong)
		}
		e.Mirrors = append(e.Mirrors, MirrorError{URL: m.label, Tries: m.tries, Err: err})
	}
	return e
}

func (ms *mirrors) drop(m *mirror) {
	ms.queue = slices.DeleteFunc(ms.queue, func(o *mirror) bool { return o == m })
}
