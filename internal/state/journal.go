package state

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
)

// Journal holds the record of each app, in memory and on disk. It is safe for concurrent use.
//
// Transitions that arrive while one is being written are folded into the next transaction, which the first of them
// writes for all; so no goroutine is needed. When a transaction fails, its records stand in memory, Do returns the
// cause, and they are written again with the next transaction or by Sync.
type Journal struct {
	writer sync.Mutex // held while a transaction is written; guards store and last
	store  *store
	last   int // how many transitions the last transaction held

	mu      sync.Mutex      // guards what follows; taken after writer
	newest  map[string]*App // after every transition that was accepted
	shown   map[string]*App // after every transition whose transaction was tried
	unsaved map[string]bool // apps whose shown record is not on disk
	next    *batch          // what the next transaction takes
	closed  bool
}

// batch is what one transaction writes.
type batch struct {
	apps   map[string]*App   // nil: delete
	values map[string][]byte // as written; nil: delete
	size   int               // how many transitions are in it
	done   chan struct{}     // closed when it is written, or cannot be
	err    error             // why it cannot be; valid once done is closed
}

// ErrClosed is returned by transitions after Close.
var ErrClosed = errors.New("journal is closed")

// errCutShort is what those are told who wait for a transaction whose writer did not come back.
var errCutShort = errors.New("cut short by a panic, of the log handler's for one; trying again with the next transaction")

func newJournal(s *store, apps map[string]*App) *Journal {
	return &Journal{store: s, newest: apps, shown: maps.Clone(apps), unsaved: map[string]bool{}}
}

// Get returns the app's record as far as its transitions are on disk (or were refused by it). Never nil; not to be changed.
func (j *Journal) Get(id string) *App {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a := j.shown[id]; a != nil {
		return a
	}
	return &App{}
}

// IDs lists the apps that have a record, in no order.
func (j *Journal) IDs() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Keys(j.shown))
}

// Do applies a transition to the app's record and returns once it is on disk. An error that wraps ErrTransition, and
// ErrClosed, mean that nothing happened; another one, that the transition stands in memory alone so far. fn may be given
// a record whose last transitions are still being written. It must not call the Journal.
func (j *Journal) Do(id string, fn func(*App) error) error {
	return j.change(id, func(a *App) (*App, error) {
		if a == nil {
			a = &App{}
		}
		changed := a.clone()
		err := fn(changed)
		if err == nil {
			changed.onWallClock()
			err = changed.sound()
		}
		if err != nil && !errors.Is(err, errUnchanged) && !errors.Is(err, ErrTransition) {
			err = fmt.Errorf("%w: %w", ErrTransition, err)
		}
		return changed, err
	})
}

// Forget removes the app's record. Errors are as those of Do.
func (j *Journal) Forget(id string) error {
	return j.change(id, func(a *App) (*App, error) {
		if a == nil {
			return nil, errUnchanged
		}
		return nil, nil
	})
}

// change replaces a record (nil: there is none) and returns once that is on disk.
func (j *Journal) change(id string, fn func(*App) (*App, error)) error {
	b, lead, err := j.accept(id, fn)
	switch {
	case errors.Is(err, errUnchanged):
		return nil
	case err != nil:
		return err
	}
	return j.commit(b, lead)
}

// accept puts the changed record into the next transaction, and reports whether the caller must write that.
func (j *Journal) accept(id string, fn func(*App) (*App, error)) (b *batch, lead bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, false, ErrClosed
	}
	before := j.newest[id]
	a, err := fn(before)
	if errors.Is(err, errUnchanged) && (before != j.shown[id] || j.unsaved[id]) {
		a, err = before, nil // what it would have changed is not on disk yet: write it again and wait for that
	}
	if err != nil {
		return nil, false, fmt.Errorf("app %s: %w", id, err)
	}
	var v []byte
	if a != nil {
		if v, err = encode(id, a); err != nil {
			return nil, false, fmt.Errorf("app %s: %w: %w", id, ErrTransition, err)
		}
		j.newest[id] = a
	} else {
		delete(j.newest, id)
	}
	b, lead = j.open()
	b.apps[id], b.values[id] = a, v
	b.size++
	return b, lead, nil
}

// open returns the next transaction, and whether it is a new one, which its caller must write. mu is held.
func (j *Journal) open() (b *batch, lead bool) {
	if lead = j.next == nil; lead {
		j.next = &batch{apps: map[string]*App{}, values: map[string][]byte{}, done: make(chan struct{})}
	}
	return j.next, lead
}

// commit returns when b is written, or could not be.
func (j *Journal) commit(b *batch, lead bool) error {
	if lead {
		j.lead(b)
	}
	<-b.done
	return b.err
}

// lead writes b for all who wait for it. Whatever ends that, a log handler that panics for one, they are told, and the next
// transaction writes again what this one may not have written.
func (j *Journal) lead(b *batch) {
	j.writer.Lock()
	defer j.writer.Unlock()
	defer close(b.done)
	defer j.show(b)
	b.err = fmt.Errorf("write journal %s: %w", j.store.path, errCutShort)
	j.gather(b)
	j.take(b)
	b.err = j.write(b)
}

// gather lets those run first who are about to join b: whoever the transaction before has just set free. Without it,
// goroutines that write one thing after the other would take turns in two halves, with twice the transactions.
func (j *Journal) gather(b *batch) {
	size := func() int {
		j.mu.Lock()
		defer j.mu.Unlock()
		return b.size
	}
	for n, more := 0, size(); more > n && more < j.last; more = size() {
		n = more
		runtime.Gosched()
	}
	j.last = size()
}

// take closes b, the next transaction, to further transitions, and adds what earlier ones left unsaved.
func (j *Journal) take(b *batch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next = nil
	for id := range j.unsaved {
		if _, ok := b.values[id]; !ok {
			b.apps[id], b.values[id] = j.shown[id], encoded(id, j.shown[id])
		}
	}
}

// encoded encodes a record that has been encoded before; nil for none.
func encoded(id string, a *App) []byte {
	if a == nil {
		return nil
	}
	v, _ := encode(id, a)
	return v
}

// write writes b. writer is held.
func (j *Journal) write(b *batch) error {
	err := j.store.put(b.values)
	if errors.Is(err, errBroken) {
		err = j.store.rebuild(j.everything(b), err)
	}
	if err != nil {
		return fmt.Errorf("write journal %s: %w", j.store.path, err)
	}
	return nil
}

// everything returns all records, those in b included.
func (j *Journal) everything(b *batch) map[string][]byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := maps.Clone(b.values)
	for id, a := range j.shown {
		if _, ok := all[id]; !ok {
			all[id] = encoded(id, a)
		}
	}
	return all
}

// show lets Get return what b wrote, or stands in memory for.
func (j *Journal) show(b *batch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, a := range b.apps {
		if a == nil {
			delete(j.shown, id)
		} else {
			j.shown[id] = a
		}
		if b.err != nil {
			j.unsaved[id] = true
		} else {
			delete(j.unsaved, id)
		}
	}
}

// Sync writes again what a transaction could not.
func (j *Journal) Sync() error {
	j.mu.Lock()
	if len(j.unsaved) == 0 || j.closed {
		j.mu.Unlock()
		return nil
	}
	b, lead := j.open()
	j.mu.Unlock()
	return j.commit(b, lead)
}

// close writes what is left to be written, if it can be, and closes the file.
func (j *Journal) close() (err error) {
	j.mu.Lock()
	var b *batch
	lead := false
	if !j.closed && (j.next != nil || len(j.unsaved) > 0) {
		b, lead = j.open()
	}
	j.closed = true
	j.mu.Unlock()
	defer func() {
		j.writer.Lock()
		defer j.writer.Unlock()
		err = errors.Join(err, j.store.close())
	}()
	if b != nil {
		err = j.commit(b, lead)
	}
	return err
}
