// Package wait waits, and no longer than a context allows.
package wait

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// For waits for d, or until ctx ends: then it returns Ended(ctx). A ctx that has ended already wins over any d.
func For(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return Ended(ctx)
	}
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return Ended(ctx)
	}
}

// Ended is why ctx ended: its error and, where it says more, its cause. Both can be asked for with errors.Is. It is nil while ctx has not
// ended.
func Ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, err):
		return cause
	default:
		return fmt.Errorf("%w: %w", err, cause)
	}
}
