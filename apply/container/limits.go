package container

import (
	"context"
	"fmt"
	"time"

	"github.com/nebraska/omahaclient/internal/wait"
)

// times limit what an engine may take. Tests have their own.
type times struct {
	call     time.Duration // for an answer about what there is, and for a new name
	change   time.Duration // for a start, a removal, a restart policy; for a stop beyond the container's own time
	create   time.Duration // for a container, which some storage drivers copy; for an image, without having taken a byte of it
	rollBack time.Duration // for the old container's return, beyond its time to stop
	pause    time.Duration // before something is tried again
}

func defaultTimes() times {
	return times{call: 30 * time.Second, change: time.Minute, create: 10 * time.Minute, rollBack: 2 * time.Minute, pause: time.Second}
}

const (
	stopTime    = 10 * time.Second // an engine's own default
	stopForever = time.Hour        // for what was created to be waited for without limit
)

// limited calls an engine, which has to answer within d.
func limited(ctx context.Context, d time.Duration, call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("the engine does not answer within %v", d))
	defer cancel()
	err := call(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// again calls fn until it succeeds, until that makes no sense, or until a rollback's time and the time to stop are over.
func (e *engine) again(ctx context.Context, stop time.Duration, fn func(ctx context.Context) error) error {
	limit, cancel := context.WithTimeout(ctx, e.rollBack+stop)
	defer cancel()
	for last := error(nil); ; {
		err := fn(limit)
		if err == nil || last == nil || limit.Err() == nil { // a try that was cut short tells less than the one before
			last = err
		}
		if err == nil || isForeign(err) || wait.For(limit, e.pause) != nil {
			return last
		}
	}
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
