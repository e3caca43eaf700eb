package pool_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errTest = errors.New("test")

// gauge counts how many run now and how many ran at most.
type gauge struct {
	mu        sync.Mutex // guards now and most
	now, most int
}

func (g *gauge) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now++
	g.most = max(g.most, g.now)
}

func (g *gauge) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now--
}

// calls starts calls one after the other, so that they queue in that order, and waits for them. Only in a bubble.
type calls struct{ wg sync.WaitGroup }

func (c *calls) start(fn func()) {
	c.wg.Go(fn)
	synctest.Wait()
}

// journal keeps what happened, in order.
type journal struct {
	mu      sync.Mutex // guards entries
	entries []string
}

func (j *journal) add(entry string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry)
}

func (j *journal) expect(t *testing.T, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.entries, want) {
		t.Errorf("ran %q, want %q", j.entries, want)
	}
}

// take returns a function that notes its name, takes a second and returns its name.
func (j *journal) take(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		j.add(name)
		select {
		case <-time.After(time.Second):
			return name, nil
		case <-ctx.Done():
			return "", fmt.Errorf("%s: %w", name, ctx.Err())
		}
	}
}

func TestDo_bounded(t *testing.T) {
	for _, tc := range []struct {
		name          string
		workers, most int
	}{{"negative means one", -3, 1}, {"zero means one", 0, 1}, {"one", 1, 1}, {"three", 3, 3}, {"more than calls", 50, 12}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pool.New[int, int](tc.workers)
				var running gauge
				var c calls
				for key := range 12 {
					c.start(func() {
						v, shared, err := p.Do(t.Context(), key, "", func(context.Context) (int, error) {
							running.enter()
							defer running.leave()
							time.Sleep(time.Second)
							return key * 10, nil
						})
						if v != key*10 || shared || err != nil {
							t.Errorf("Do(%d) = %d, %t, %v", key, v, shared, err)
						}
					})
				}
				c.wg.Wait()
				if got := running.most; got != tc.most {
					t.Errorf("%d ran at the same time, want %d", got, tc.most)
				}
			})
		})
	}
}

func TestDo_oneCallPerKeyInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New[string, string](8)
		var j journal
		var running gauge
		var c calls
		for i := range 5 {
			c.start(func() {
				name := fmt.Sprint("a", i)
				_, _, err := p.Do(t.Context(), "a", "", func(ctx context.Context) (string, error) {
					running.enter()
					defer running.leave()
					return j.take(name)(ctx)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		c.wg.Wait()
		j.expect(t, "a0", "a1", "a2", "a3", "a4")
		if got := running.most; got != 1 {
			t.Errorf("%d calls of one key ran at the same time", got)
		}
	})
}

func TestDo_keysTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New[string, string](1)
		var j journal
		var c calls
		for _, name := range []string{"a0", "a1", "a2", "a3", "b0", "b1", "c0"} {
			c.start(func() {
				if _, _, err := p.Do(t.Context(), name[:1], "", j.take(name)); err != nil {
					t.Error(err)
				}
			})
		}
		c.wg.Wait()
		j.expect(t, "a0", "b0", "c0", "a1", "b1", "a2", "a3")
	})
}

func TestDo_sharesOverlappingWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New[string, string](2)
		var j journal
		var c calls
		var shares atomic.Int64
		do := func(key, work, name, want string) {
			c.start(func() {
				v, shared, err := p.Do(t.Context(), key, work, j.take(name))
				if err != nil || v != want {
					t.Errorf("%s = %q, %v; want %q", name, v, err, want)
				}
				if shared != (name != want) {
					t.Errorf("%s: shared = %t", name, shared)
				}
				if shared {
					shares.Add(1)
				}
			})
		}
		do("a", "", "a0", "a0")      // runs
		do("a", "w", "a1", "b0")     // waits for its key: shares all the same
		do("b", "w", "b0", "b0")     // runs
		do("c", "w", "c0", "b0")     // shares, and takes no worker
		do("b", "w", "b1", "b0")     // of the same key
		do("d", "other", "d0", "d0") // runs next
		c.wg.Wait()
		do("b", "w", "b2", "b2") // after the end: a new run
		c.wg.Wait()
		j.expect(t, "a0", "b0", "d0", "b2")
		if shares.Load() != 3 {
			t.Errorf("%d calls shared, want 3", shares.Load())
		}
	})
}

func TestDo_emptyWorkIsNeverShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New[string, string](2)
		var j journal
		var c calls
		for _, key := range []string{"a", "b"} {
			c.start(func() {
				if v, shared, err := p.Do(t.Context(), key, "", j.take(key)); v != key || shared || err != nil {
					t.Errorf("Do(%s) = %q, %t, %v", key, v, shared, err)
				}
			})
		}
		c.wg.Wait()
		j.expect(t, "a", "b")
	})
}

func TestDo_sharesFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New[string, int](2)
		var c calls
		for _, key := range []string{"leader", "sharer"} {
			c.start(func() {
				v, shared, err := p.Do(t.Context(), key, "w", func(context.Context) (int, error) {
					time.Sleep(time.Second)
					return 7, errTest
				})
				if v != 7 || shared != (key == "sharer") || !errors.Is(err, errTest) {
					t.Errorf("%s = %d, %t, %v", key, v, shared, err)
				}
			})
		}
		c.wg.Wait()
	})
}

func TestDo_sharerTakesOver(t *testing.T) {
	for _, tc := range []struct {
		name    string
		blocker string        // a key that holds the only worker for a second
		after   time.Duration // when the leader is cancelled
		ran     []string
	}{
		{"leader cancelled while it runs", "", time.Second / 2, []string{"leader", "first"}},
		{"leader cancelled while it waits for a worker", "x", time.Second / 2, []string{"x", "first"}},
		{"leader cancelled while it waits for its key", "leader", time.Second / 2, []string{"leader", "first"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pool.New[string, string](1)
				var j journal
				var c calls
				if tc.blocker != "" {
					c.start(func() {
						if _, _, err := p.Do(t.Context(), tc.blocker, "", j.take(tc.blocker)); err != nil {
							t.Error(err)
						}
					})
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c.start(func() {
					if v, shared, err := p.Do(ctx, "leader", "w", j.take("leader")); !errors.Is(err, context.Canceled) || shared {
						t.Errorf("leader = %q, %t, %v; want its cancellation", v, shared, err)
					}
				})
				for _, key := range []string{"first", "second"} {
					c.start(func() {
						v, shared, err := p.Do(t.Context(), key, "w", j.take(key))
						if v != "first" || shared != (key == "second") || err != nil {
							t.Errorf("%s = %q, %t, %v; want first's", key, v, shared, err)
						}
					})
				}
				time.Sleep(tc.after)
				cancel()
				c.wg.Wait()
				j.expect(t, tc.ran...)
			})
		})
	}
}

func TestDo_sharesWhatACancelledLeaderFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New[string, string](1)
		var c calls
		ctx, cancel := context.WithCancel(t.Context())
		c.start(func() {
			_, _, err := p.Do(ctx, "leader", "w", func(context.Context) (string, error) {
				time.Sleep(time.Second)
				cancel()
				return "done", nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		c.start(func() {
			v, shared, err := p.Do(t.Context(), "sharer", "w", func(context.Context) (string, error) { return "again", nil })
			if v != "done" || !shared || err != nil {
				t.Errorf("sharer = %q, %t, %v", v, shared, err)
			}
		})
		c.wg.Wait()
	})
}

func TestDo_cancelledWhileQueued(t *testing.T) {
	for _, tc := range []struct{ name, key, work string }{
		{"for its key", "a", ""}, {"for a worker", "b", ""}, {"for another's run", "b", "w"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pool.New[string, string](1)
				var j journal
				var c calls
				c.start(func() {
					if _, _, err := p.Do(t.Context(), "a", "w", j.take("a")); err != nil {
						t.Error(err)
					}
				})
				ctx, cancel := context.WithCancelCause(t.Context())
				started := time.Now()
				c.start(func() {
					_, shared, err := p.Do(ctx, tc.key, tc.work, j.take("queued"))
					if err != errTest || shared { //nolint:errorlint // the cause itself is promised
						t.Errorf("queued: shared %t, %v; want the cause", shared, err)
					}
					if waited := time.Since(started); waited != time.Second/4 {
						t.Errorf("returned after %s, want at once when cancelled", waited)
					}
				})
				time.Sleep(time.Second / 4)
				cancel(errTest)
				c.wg.Wait()
				j.expect(t, "a")
			})
		})
	}
}

func TestDo_startsNothingWhenAlreadyCancelled(t *testing.T) {
	p := pool.New[string, int](1)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTest)
	_, _, err := p.Do(ctx, "a", "w", func(context.Context) (int, error) { t.Error("ran"); return 0, nil })
	if !errors.Is(err, errTest) {
		t.Errorf("err = %v", err)
	}
}

func TestDo_waitsForItsCancelledFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New[string, int](1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var returned bool
		_, _, err := p.Do(ctx, "a", "", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			time.Sleep(time.Minute) // cleaning up
			returned = true
			return 0, ctx.Err()
		})
		if !returned || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do returned %v before its function: %t", err, !returned)
		}
	})
}

func TestDo_containsPanics(t *testing.T) {
	for _, tc := range []struct {
		name  string
		value any
		wraps func(error) bool
	}{
		{"a string", "boom", nil},
		{"an error", errTest, func(err error) bool { return errors.Is(err, errTest) }},
		{"nil", nil, func(err error) bool { var nilError *runtime.PanicNilError; return errors.As(err, &nilError) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pool.New[string, int](1)
				var c calls
				for _, key := range []string{"leader", "sharer"} {
					c.start(func() {
						_, shared, err := p.Do(t.Context(), key, "w", func(context.Context) (int, error) {
							time.Sleep(time.Second)
							panic(tc.value)
						})
						var panicked *pool.PanicError
						if !errors.As(err, &panicked) || len(panicked.Stack) == 0 || shared != (key == "sharer") {
							t.Errorf("%s: shared %t, %#v; want a PanicError with its stack", key, shared, err)
						}
						if tc.wraps != nil && !tc.wraps(err) {
							t.Errorf("%v does not wrap what was given to panic", err)
						}
					})
				}
				c.wg.Wait()
				if v, _, err := p.Do(t.Context(), "leader", "w", func(context.Context) (int, error) { return 5, nil }); v != 5 || err != nil {
					t.Errorf("after the panic: %d, %v", v, err)
				}
			})
		})
	}
}

func TestDo_goexitHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New[string, string](1)
		var c calls
		c.start(func() {
			_, _, _ = p.Do(t.Context(), "leader", "w", func(context.Context) (string, error) {
				time.Sleep(time.Second)
				runtime.Goexit()
				return "", nil
			})
			t.Error("Do returned after Goexit")
		})
		c.start(func() {
			v, shared, err := p.Do(t.Context(), "sharer", "w", func(context.Context) (string, error) { return "sharer", nil })
			if v != "sharer" || shared || err != nil {
				t.Errorf("sharer = %q, %t, %v", v, shared, err)
			}
		})
		c.start(func() { // the leader's key is free again
			if _, _, err := p.Do(t.Context(), "leader", "", func(context.Context) (string, error) { return "", nil }); err != nil {
				t.Error(err)
			}
		})
		c.wg.Wait()
	})
}
