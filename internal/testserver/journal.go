package testserver

import (
	"context"
	"fmt"
	"sync"
)

// journal remembers the latest max entries. Its owner locks.
type journal[T any] struct {
	max     int
	entries []*T
}

func (j *journal[T]) add(e *T) {
	if j.max <= 0 {
		return
	}
	if len(j.entries) >= j.max {
		j.entries[0] = nil
		j.entries = j.entries[1:]
	}
	j.entries = append(j.entries, e)
}

func (j *journal[T]) all() []T {
	list := make([]T, len(j.entries))
	for i, e := range j.entries {
		list[i] = *e
	}
	return list
}

// queue holds faults, each for the next n exchanges (all of them if n < 0). Its
// owner locks.
type queue[T any] struct {
	waiting []queued[T]
}

type queued[T any] struct {
	n     int
	fault T
}

func (q *queue[T]) push(n int, fault T) {
	if n != 0 {
		q.waiting = append(q.waiting, queued[T]{n, fault})
	}
}

func (q *queue[T]) pop() (fault T, found bool) {
	if len(q.waiting) == 0 {
		return fault, false
	}
	head := &q.waiting[0]
	fault = head.fault
	if head.n > 0 {
		head.n--
	}
	if head.n == 0 {
		q.waiting = q.waiting[1:]
	}
	return fault, true
}

// signal wakes everyone who waits for a change. A channel is only made where
// somebody waits, so that announcing costs nothing in long runs.
type signal struct {
	mu      sync.Mutex // guards changed
	changed chan struct{}
}

func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

func (s *signal) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// WaitFor waits until cond holds. It asks cond at once, and again after each
// request, change of an instance and piece of payload; it never polls. cond may
// call the server's methods. When ctx ends first, its cause is returned.
func (s *Server) WaitFor(ctx context.Context, cond func(*Server) bool) error {
	for {
		changed := s.changes.wait()
		if cond(s) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("testserver: wait for a condition: %w", context.Cause(ctx))
		}
	}
}
