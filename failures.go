package omahaclient

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// failures counts failed contacts in a row and spaces the next tries: from 2 seconds up to the schedule's mean wait, each
// wait randomized by half, without end. Short schedules have short waits.
type failures struct {
	policy  *backoff.ExponentialBackOff
	last    error
	wait    time.Duration // after the last contact that failed
	counted bool          // and wait knows of it
	at      time.Time     // when that contact ended
}

func newFailures(s Schedule) *failures {
	first := min(2*time.Second, s.Min)
	return &failures{policy: backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(first),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(max(s.mean(), first)),
		backoff.WithMaxElapsedTime(0), // its default would end the retries after 15 minutes
	)}
}

func (f *failures) next() time.Duration { return f.policy.NextBackOff() }

// settle draws the wait after a contact that failed at now, once for all of its requests.
func (f *failures) settle(now time.Time) {
	if f != nil && !f.counted {
		f.wait, f.counted = f.next(), true
		f.at = now
	}
}

// left returns how long not to try again.
func (f *failures) left(now time.Time) time.Duration {
	if f == nil {
		return 0
	}
	return f.at.Add(f.wait).Sub(now)
}

// tryNow reports whether a call that began at the given time may try: at once, but not again before the wait that all share is over.
func (f *failures) tryNow(began, now time.Time) bool {
	return f.left(now) <= 0 || !f.at.After(began)
}
