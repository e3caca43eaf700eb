// Package pool bounds how much work runs at the same time, and shares it out fairly.
//
// A call names a key (for an updater: the app that wants something) and, where others may want the very
// same thing, the work (a payload's digest). A [Pool] then promises:
//
//   - At most as many functions run at the same time as the pool has workers.
//   - For each key at most one function runs at a time, and calls of one key run in the order of their arrival.
//   - Keys take turns: a key with a hundred calls waiting delays another key by one call for each worker at most.
//   - Calls with the same work that overlap share one run, whichever of them has its turn first.
//   - A panic in one function becomes an error of its calls.
//
// A pool has no goroutines: functions run in the goroutine of the caller that waits for them, so whoever
// waits for its callers has waited for the pool.
package pool

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"golang.org/x/sync/semaphore"
)

// errShared is the cause that wakes a waiting call when another has run its work.
var errShared = errors.New("pool: another call ran this work")

// Pool runs functions, a bounded number at a time. It must be made by [New], and is safe for concurrent use.
type Pool[K comparable, V any] struct {
	workers *semaphore.Weighted // first come, first served: fair, because each key waits here at most once

	mu    sync.Mutex            // guards keys, works and everything in their values but the locks
	keys  map[K]*line           // by key, while it has calls
	works map[string]*flight[V] // by work, while it has calls and no result
}

// line is a key's queue.
type line struct {
	lock  *semaphore.Weighted // held by the call whose turn it is; the others wait for it in order
	calls int
}

// flight is a piece of work and the calls that want it.
type flight[V any] struct {
	lock  *semaphore.Weighted // held by the call that runs the work, or waits for a worker to do so
	calls map[*context.CancelCauseFunc]struct{}
	v     V // with err the result, valid once the calls were woken with errShared
	err   error
}

// New returns a pool that runs at most workers functions at a time; less than 1 means 1.
func New[K comparable, V any](workers int) *Pool[K, V] {
	return &Pool[K, V]{
		workers: semaphore.NewWeighted(int64(max(workers, 1))),
		keys:    make(map[K]*line),
		works:   make(map[string]*flight[V]),
	}
}

// Do waits for its key's turn and for a worker, runs fn(ctx) in the calling goroutine and returns what fn returns.
// It never returns while its fn runs; fn itself must watch ctx.
//
// Calls with the same non-empty work that overlap get the result of one run, whatever their keys;
// shared is true for those whose own fn did not run. Another call's run is shared when it ends, well or badly,
// except by its caller's own going: if fn fails while its ctx is done, or ends its goroutine with
// [runtime.Goexit], the next call that wants the work runs its own fn. Whoever starts after the end of a run gets a new one.
//
// If ctx ends before fn was started, Do returns [context.Cause] of ctx. If fn panics, all calls
// that share it get the same [*PanicError]. Calling Do from within fn can wait for itself, if keys or workers run out.
func (p *Pool[K, V]) Do(ctx context.Context, key K, work string, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	waiting, ln, w, leave := p.join(ctx, key, work)
	defer leave()
	// Always in this order, and who has a worker waits for nothing more: no two calls wait for each other.
	for _, lock := range []*semaphore.Weighted{ln.lock, w.lock, p.workers} {
		if lock.Acquire(waiting, 1) == nil {
			defer lock.Release(1)
			continue
		}
		if cause := context.Cause(waiting); cause != errShared { //nolint:errorlint // the very value, not what a caller may have wrapped
			return v, false, cause
		}
		return w.v, true, w.err
	}
	v, err = contain(ctx, fn)
	if err == nil || ctx.Err() == nil {
		p.publish(work, w, v, err)
	}
	return v, false, err
}

// join enters a call into its key's line and among those that want its work. The context returned ends with ctx,
// or with errShared when another call has run the work. leave undoes it all.
func (p *Pool[K, V]) join(ctx context.Context, key K, work string) (waiting context.Context, ln *line, w *flight[V], leave func()) {
	waiting, wake := context.WithCancelCause(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if ln = p.keys[key]; ln == nil {
		ln = &line{lock: semaphore.NewWeighted(1)}
		p.keys[key] = ln
	}
	ln.calls++
	if w = p.works[work]; w == nil {
		w = &flight[V]{lock: semaphore.NewWeighted(1), calls: make(map[*context.CancelCauseFunc]struct{})}
		if work != "" {
			p.works[work] = w
		}
	}
	w.calls[&wake] = struct{}{}
	return waiting, ln, w, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		wake(nil)
		if ln.calls--; ln.calls == 0 {
			delete(p.keys, key)
		}
		if delete(w.calls, &wake); len(w.calls) == 0 && p.works[work] == w {
			delete(p.works, work)
		}
	}
}

// publish wakes all that want w, wherever they wait, with its result.
func (p *Pool[K, V]) publish(work string, w *flight[V], v V, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.works, work)
	w.v, w.err = v, err
	for wake := range w.calls {
		(*wake)(errShared)
	}
}

// contain calls fn and turns a panic into an error.
func contain[V any](ctx context.Context, fn func(context.Context) (V, error)) (v V, err error) {
	defer func() {
		if value := recover(); value != nil { // nil also after runtime.Goexit, which goes on
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return fn(ctx)
}

// PanicError is the error of calls whose function panicked.
type PanicError struct {
	Value any    // what was given to panic
	Stack []byte // the stack of the goroutine that panicked, as of [debug.Stack]
}

// Error says what was given to panic; the stack is left to the log.
func (e *PanicError) Error() string { return fmt.Sprintf("pool: the work panicked: %v", e.Value) }

// Unwrap returns the value given to panic where that is an error, else nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
