package apply

import (
	"context"
	"time"
)

// What tests need of the inside.
const (
	ActivateTime = activateTime
	RollBackTime = rollBackTime
)

// RunWithin is Run with a limit.
func RunWithin(limit time.Duration, name string, args ...string) func(ctx context.Context) error {
	return runWithin(limit, name, args...)
}

// Stepped returns b with a function that is told of its steps.
func (b Binary) Stepped(fn func(point string)) Binary { return b.Faulty(told(fn)) }

// Stepped returns a with a function that is told of its steps.
func (a Archive) Stepped(fn func(point string)) Archive { return a.Faulty(told(fn)) }

// Faulty returns b with a function that is told of its steps, and whose error a step fails with.
func (b Binary) Faulty(fn func(point string) error) Binary { b.steps = fn; return b }

// Faulty returns a with a function that is told of its steps, and whose error a step fails with.
func (a Archive) Faulty(fn func(point string) error) Archive { a.steps = fn; return a }

// RecoverStepped is Recover with a function that is told of its steps.
func RecoverStepped(stateDir string, fn func(point string)) error {
	return recoverSelf(stateDir, told(fn))
}

func told(fn func(point string)) steps {
	if fn == nil {
		return nil
	}
	return func(point string) error { fn(point); return nil }
}
