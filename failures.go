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
