package pool_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/nebraska/omahaclient/pool"
)

// plan is one call of the model test.
type plan struct {
	key, work string
	start     time.Duration // when Do is called
	takes     time.Duration // how long its function runs
	cancel    time.Duration // when its ctx ends; 0: never
	panics    bool
}

func plans(t *rapid.T) []plan {
	ms := func(label string, most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, label)) * time.Millisecond
	}
	list := make([]plan, rapid.IntRange(1, 30).Draw(t, "calls"))
	for i := range list {
		list[i] = plan{
			key:    rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key"),
			work:   rapid.SampledFrom([]string{"", "", "v", "w"}).Draw(t, "work"),
			start:  ms("start", 20),
			takes:  ms("takes", 10),
			panics: rapid.IntRange(0, 9).Draw(t, "panics") == 0,
		}
		if rapid.IntRange(0, 3).Draw(t, "cancelled") == 0 {
			list[i].cancel = list[i].start + ms("cancel", 20)
		}
	}
	return list
}

// model checks what must hold at any time, whatever the order of events.
type model struct {
	mu      sync.Mutex // guards all below
	workers int
	running int
	keys    map[string]bool
	works   map[string]bool
	ran     map[int]bool
	wrong   []string
}

func (m *model) begin(i int, p plan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running++; m.running > m.workers {
		m.wrong = append(m.wrong, fmt.Sprintf("call %d: %d run on %d workers", i, m.running, m.workers))
	}
	if m.keys[p.key] {
		m.wrong = append(m.wrong, fmt.Sprintf("call %d: key %s runs already", i, p.key))
	}
	if p.work != "" && m.works[p.work] {
		m.wrong = append(m.wrong, fmt.Sprintf("call %d: work %s runs already", i, p.work))
	}
	m.keys[p.key], m.works[p.work], m.ran[i] = true, true, true
}

func (m *model) end(p plan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running--
	m.keys[p.key], m.works[p.work] = false, false
}

// result checks what Do returned for call i.
func (m *model) result(ctx context.Context, i int, list []plan, v int, shared bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var panicked *pool.PanicError
	ran, p := m.ran[i], list[i]
	var ok bool
	switch {
	case shared:
		ok = !ran && p.work != "" && (errors.As(err, &panicked) || err == nil && list[v].work == p.work && m.ran[v])
	case err == nil:
		ok = ran && v == i && !p.panics
	case errors.As(err, &panicked):
		ok = ran && p.panics
	default:
		ok = ctx.Err() != nil && errors.Is(err, ctx.Err())
	}
	if !ok {
		m.wrong = append(m.wrong, fmt.Sprintf("call %d (%+v), ran %t: Do = %d, %t, %v", i, p, ran, v, shared, err))
	}
}

func TestDo_model(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		list := plans(rt)
		m := &model{workers: rapid.IntRange(1, 3).Draw(rt, "workers"), keys: map[string]bool{}, works: map[string]bool{}, ran: map[int]bool{}}
		synctest.Test(t, func(t *testing.T) {
			p := pool.New[string, int](m.workers)
			var wg sync.WaitGroup
			for i := range list {
				wg.Go(func() { call(t.Context(), p, m, list, i) })
			}
			wg.Wait() // a call that waits for ever makes synctest fail
		})
		if len(m.wrong) > 0 {
			rt.Fatalf("%q", m.wrong)
		}
	})
}

func call(ctx context.Context, p *pool.Pool[string, int], m *model, list []plan, i int) {
	this := list[i]
	if this.cancel > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, this.cancel)
		defer cancel()
	}
	time.Sleep(this.start)
	v, shared, err := p.Do(ctx, this.key, this.work, func(ctx context.Context) (int, error) {
		m.begin(i, this)
		defer m.end(this)
		select {
		case <-time.After(this.takes):
		case <-ctx.Done():
			return i, ctx.Err()
		}
		if this.panics {
			panic(i)
		}
		return i, nil
	})
	m.result(ctx, i, list, v, shared, err)
}
