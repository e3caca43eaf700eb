package omahaclient

import (
	"sync"
	"time"
)

// Progress reports bytes of one payload.
type Progress struct {
	AppID, Version, Payload string
	Done, Total             int64 // bytes; Total 0 where the size is unknown
	Finished                bool
	Err                     error
}

const progressInterval = 100 * time.Millisecond

// teller thins out what fetchers report to what a program wants to see: in order, at most 10 a second, the first and the
// last always.
type teller struct {
	fn func(Progress)

	mu   sync.Mutex // guards what follows; held while fn runs, so that calls come in order
	now  Progress
	told time.Time
	over bool
}

func newTeller(fn func(Progress), start Progress) *teller { return &teller{fn: fn, now: start} }

func (t *teller) progress(done, total int64) {
	if t.fn == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Done = done
	if total > 0 {
		t.now.Total = total
	}
	if now := time.Now(); !t.over && now.Sub(t.told) >= progressInterval {
		t.told = now
		t.fn(t.now)
	}
}

// finish tells the end. Where nothing was told before, it is the first and the last at once.
func (t *teller) finish(size int64, err error) {
	if t.fn == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over, t.now.Finished, t.now.Err = true, true, err
	if err == nil {
		t.now.Done = size
		t.now.Total = max(t.now.Total, size)
	}
	t.fn(t.now)
}
