package pool

import (
	"context"
	"errors"
	"testing"
)

// A pool lives as long as its program: what a call entered must be gone when the call is.
func TestDo_leavesNothingBehind(t *testing.T) {
	p := New[int, int](1)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	ctxs := []context.Context{t.Context(), cancelled}
	for i := range 100 {
		_, _, _ = p.Do(ctxs[i%2], i, []string{"", "w"}[i/2%2], func(context.Context) (int, error) {
			if i%5 == 0 {
				panic("boom")
			}
			return 0, errors.New("test")
		})
	}
	if len(p.keys) != 0 || len(p.works) != 0 {
		t.Errorf("%d keys and %d works are left", len(p.keys), len(p.works))
	}
}
