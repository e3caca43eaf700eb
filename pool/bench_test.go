package pool_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/nebraska/omahaclient/pool"
)

func nothing(context.Context) (int, error) { return 0, nil }

// BenchmarkDo runs nothing, from one goroutine and from eight with a key each. Beside it runs the least that
// bounds work: a bare semaphore of as many workers. Pool time over semaphore time is reported as x/semaphore.
func BenchmarkDo(b *testing.B) {
	const workers = 4
	for _, bench := range []struct {
		name, work string
		callers    int
	}{{"alone", "", 1}, {"alone with work", "w", 1}, {"eight keys", "", 8}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs() // of a batch
			p := pool.New[int, int](workers)
			ctx, n := context.Background(), 0
			// The calls of a measurement are made in batches, so that both sides start their goroutines equally often.
			const batch = 1024
			var bare time.Duration
			sem := semaphore.NewWeighted(workers)
			for b.Loop() {
				n++
				spread(bench.callers, batch, func(key int) { _, _, _ = p.Do(ctx, key, bench.work, nothing) })
				b.StopTimer()
				bare += spread(bench.callers, batch, func(int) {
					if sem.Acquire(ctx, 1) == nil {
						_, _ = nothing(ctx)
						sem.Release(1)
					}
				})
				b.StartTimer()
			}
			b.ReportMetric(0, "ns/op") // of a batch: says nothing
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*batch), "ns/call")
			b.ReportMetric(float64(b.Elapsed())/float64(bare), "x/semaphore")
		})
	}
}

// spread calls do so many times in all, from so many goroutines, and returns how long that took.
func spread(callers, calls int, do func(caller int)) time.Duration {
	start := time.Now()
	var left atomic.Int64
	left.Store(int64(calls))
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				do(caller)
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}
