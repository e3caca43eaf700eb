package state

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
)

// Journal holds the record of each app, in memory and on disk. It is safe for concurrent use.
//
// Transitions that arrive while one is being written are folded into the next transaction: its first waiter writes
// for all of them, so that no goroutine is needed. When a transaction fails, its records stand in memory, Do returns
// the cause, and they are written again with the next transaction or by Sync.
type Journal struct {
	log *slog.Logger

	writer sync.Mutex // held while a transaction is written; guards store, and err and done of every batch
	store  *store

	mu      sync.Mutex      // guards what follows
	newest  map[string]*App // after every transition that was accepted
	shown   map[string]*App // after every transition whose transaction was tried
	unsaved map[string]bool // apps whose shown record is not on disk
	next    *batch          // what the next transaction takes
	closed  bool
}

type batch struct {
	records map[string]*App // nil: delete
	done    bool
	err     error
}

// ErrClosed is returned by transitions after Close.
var ErrClosed = errors.New("journal is closed")

func newJournal(s *store, apps map[string]*App, log *slog.Logger) *Journal {
	return &Journal{log: log, store: s, newest: apps, shown: maps.Clone(apps), unsaved: map[string]bool{}}
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
	ids := make([]string, 0, len(j.shown))
	for id := range j.shown {
		ids = append(ids, id)
	}
	return ids
}

// Do applies a transition to the app's record and returns once it is on disk. An error that wraps ErrTransition (or
// any other error of fn) means that nothing happened; another one, that the transition stands in memory alone so far.
func (j *Journal) Do(id string, fn func(*App) error) error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrClosed
	}
	a := j.newest[id]
	if a == nil {
		a = &App{}
	}
	a = a.clone()
	switch err := fn(a); {
	case errors.Is(err, errUnchanged):
		j.mu.Unlock()
		return nil
	case err != nil:
		j.mu.Unlock()
		return fmt.Errorf("app %s: %w", id, err)
	}
	return j.commit(j.enqueue(id, a))
}

// Forget removes the app's record.
func (j *Journal) Forget(id string) error {
	j.mu.Lock()
	if j.closed || j.newest[id] == nil {
		j.mu.Unlock()
		return nil
	}
	return j.commit(j.enqueue(id, nil))
}

// enqueue adds the record to the next batch. It is called with mu held and releases it.
func (j *Journal) enqueue(id string, a *App) *batch {
	defer j.mu.Unlock()
	if a == nil {
		delete(j.newest, id)
	} else {
		j.newest[id] = a
	}
	if j.next == nil {
		j.next = &batch{records: map[string]*App{}}
	}
	j.next.records[id] = a
	return j.next
}

// commit waits until b is written, by this caller or by another one.
func (j *Journal) commit(b *batch) error {
	j.writer.Lock()
	defer j.writer.Unlock()
	if b.done {
		return b.err
	}
	j.write(b)
	return b.err
}

// write takes the open batch, which is b, together with what an earlier transaction left unsaved. writer is held.
func (j *Journal) write(b *batch) {
	j.mu.Lock()
	j.next = nil
	records := b.records
	if len(j.unsaved) > 0 {
		records = maps.Clone(b.records)
		for id := range j.unsaved {
			if _, ok := records[id]; !ok {
				records[id] = j.shown[id]
			}
		}
	}
	j.mu.Unlock()

	b.err = j.store.put(records)
	if errors.Is(b.err, errBroken) {
		b.err = j.rebuild(records, b.err)
	}
	b.done = true

	j.mu.Lock()
	defer j.mu.Unlock()
	for id, a := range records {
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
	if b.err != nil {
		b.err = fmt.Errorf("write journal %s: %w", j.store.path, b.err)
	}
}

// rebuild replaces a file that broke under our hands by one with everything that is in memory. writer is held.
func (j *Journal) rebuild(records map[string]*App, cause error) error {
	j.mu.Lock()
	all := maps.Clone(j.shown)
	j.mu.Unlock()
	maps.Copy(all, records)
	s, err := j.store.replace(j.log, cause)
	if err != nil {
		return err
	}
	j.store = s
	return s.put(all)
}

// Sync writes again what a transaction could not.
func (j *Journal) Sync() error {
	j.writer.Lock()
	defer j.writer.Unlock()
	j.mu.Lock()
	n := len(j.unsaved)
	if n == 0 || j.closed {
		j.mu.Unlock()
		return nil
	}
	b := j.next
	if b == nil {
		b = &batch{}
	}
	j.mu.Unlock()
	j.write(b)
	return b.err
}

// Saved reports whether the app's record is on disk as Get returns it.
func (j *Journal) Saved(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.unsaved[id]
}

// close writes what is unsaved, if it can be, and closes the file.
func (j *Journal) close() error {
	syncErr := j.Sync()
	j.writer.Lock()
	defer j.writer.Unlock()
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	b := j.next
	j.mu.Unlock()
	if b != nil {
		j.write(b)
		syncErr = errors.Join(syncErr, b.err)
	}
	return errors.Join(syncErr, j.store.close())
}
