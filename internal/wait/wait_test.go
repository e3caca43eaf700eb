package wait_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient/internal/wait"
)

var errStop = errors.New("the program stops")

func TestFor(t *testing.T) {
	for name, c := range map[string]struct {
		wait, end time.Duration // end: when ctx ends; negative: before
		took      time.Duration
		ended     bool
	}{
		"waited":              {wait: time.Hour, end: 2 * time.Hour, took: time.Hour},
		"ended meanwhile":     {wait: 2 * time.Hour, end: time.Hour, took: time.Hour, ended: true},
		"ended before":        {wait: time.Hour, end: -1, ended: true},
		"nothing to wait for": {wait: 0, end: time.Hour},
		"negative":            {wait: -time.Hour, end: time.Hour},
		"neither":             {wait: 0, end: -1, ended: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				if c.end < 0 {
					cancel(errStop)
				} else {
					time.AfterFunc(c.end, func() { cancel(errStop) })
				}
				start := time.Now()
				err := wait.For(ctx, c.wait)
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if ended := err != nil; ended != c.ended {
					t.Fatalf("error %v, want one: %v", err, c.ended)
				}
				if c.ended && (!errors.Is(err, errStop) || !errors.Is(err, context.Canceled)) {
					t.Errorf("error %q, want the context's and its cause", err)
				}
			})
		})
	}
}

func TestEnded_saysNothingTwice(t *testing.T) {
	plain, cancel := context.WithCancel(t.Context())
	cancel()
	wrapped, stop := context.WithCancelCause(t.Context())
	stop(fmt.Errorf("signal 15: %w", context.Canceled))
	for want, ctx := range map[string]context.Context{
		"context canceled":            plain,
		"signal 15: context canceled": wrapped,
	} {
		if err := wait.Ended(ctx); err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if err := wait.Ended(t.Context()); err != nil {
		t.Errorf("of a context that goes on: %v", err)
	}
}
