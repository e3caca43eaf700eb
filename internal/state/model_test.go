package state_test

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nebraska/omahaclient/internal/state"
)

// model is the journal by the book: what is in memory, and what is on disk.
type model struct {
	temp   func() string // makes a folder
	dir    string
	real   *state.Dir
	memory map[string]*state.App
	disk   map[string]*state.App
	stale  map[string]bool // apps of which the disk does not have the last record
	heal   func()          // ends the disk's failing; nil while it works
	now    time.Time
	finals map[string][]state.Report // all that were recorded and not delivered, oldest first
}

func newModel(t *rapid.T, temp func() string) *model {
	m := &model{
		temp: temp, dir: temp(), memory: map[string]*state.App{}, disk: map[string]*state.App{}, stale: map[string]bool{},
		now: epoch, finals: map[string][]state.Report{},
	}
	m.start(t)
	return m
}

func (m *model) start(t *rapid.T) {
	d, err := state.Open(m.dir, machine, slog.New(slog.DiscardHandler))
	must(t, err)
	m.real = d
}

func (m *model) get(id string) *state.App {
	if a := m.memory[id]; a != nil {
		return a
	}
	return &state.App{}
}

// set changes a record, and says whether that is to reach the disk.
func (m *model) set(id string, a *state.App) (written bool) {
	if m.memory[id] = a; a == nil {
		delete(m.memory, id)
	}
	m.stale[id] = true
	return m.write()
}

// write is a transaction: all or nothing.
func (m *model) write() bool {
	if m.heal != nil {
		return false
	}
	m.disk = maps.Clone(m.memory)
	clear(m.stale)
	return true
}

func (m *model) check(t *rapid.T) {
	want(t, "apps", len(m.real.Journal.IDs()), len(m.memory))
	for id, a := range m.memory {
		got := m.real.Journal.Get(id)
		if g, w := text(t, got), text(t, a); g != w {
			t.Fatalf("app %s\n got %s\nwant %s", id, g, w)
		}
		must(t, got.Sound())
		m.invariants(t, id, got)
	}
}

func (m *model) invariants(t *rapid.T, id string, a *state.App) {
	if a.Update != nil && a.Pending != nil {
		t.Error("an update is open beside a pending one")
	}
	if a.Wait != nil && (a.Tried == nil || a.Tried.Identity != a.Wait.Identity) {
		t.Error("the wait is for another release than the one tried last")
	}
	var finals []state.Report
	for i, r := range a.Outbox {
		if i > 0 && r.Seq <= a.Outbox[i-1].Seq || r.Seq > a.LastSeq {
			t.Errorf("report %d is out of order", r.Seq)
		}
		if r.Final() {
			finals = append(finals, r)
		}
	}
	kept := m.finals[id]
	if len(kept) <= state.MaxFinalReports/2 && !slices.EqualFunc(finals, kept, func(a, b state.Report) bool { return a.Seq == b.Seq }) {
		t.Errorf("app %s: %d verdicts in the outbox; want %d", id, len(finals), len(kept))
	}
}

// record notes the verdicts that a transition has added.
func (m *model) record(id string, before, after *state.App) {
	for _, r := range after.Outbox {
		if r.Final() && r.Seq > before.LastSeq {
			m.finals[id] = append(m.finals[id], r)
		}
	}
}

// transition draws one, legal more often than not, and does it.
func (m *model) transition(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "hours later")) * time.Hour)
	id := rapid.SampledFrom([]string{appA, appB}).Draw(t, "app")
	before := m.get(id)
	possible := rules
	if rapid.IntRange(0, 4).Draw(t, "any transition") > 0 {
		possible = nil
		for _, r := range rules {
			if slices.Contains([]rune(r.in), []rune(phase(before))[0]) {
				possible = append(possible, r)
			}
		}
	}
	r := rapid.SampledFrom(possible).Draw(t, "transition")
	x := drawArgs(t, r, before, m.now)
	after, should := r.by(before, x)
	err := m.real.Journal.Do(id, func(a *state.App) error { return r.do(a, x) })
	written := true
	switch should {
	case taken:
		if r.name == "Delivered" {
			m.finals[id] = slices.DeleteFunc(m.finals[id], func(r state.Report) bool { return slices.Contains(x.seqs, r.Seq) })
		}
		m.record(id, before, after)
		written = m.set(id, after)
	case nothing:
		if m.stale[id] {
			written = m.write()
		}
	case refused:
		wantErr(t, err, state.ErrTransition)
		return
	}
	m.outcome(t, r.name, err, written)
}

// outcome checks an error: nil if something was written (or nothing was to be), else the cause.
func (m *model) outcome(t *rapid.T, what string, err error, written bool) {
	t.Helper()
	if written != (err == nil) || errors.Is(err, state.ErrTransition) || errors.Is(err, state.ErrClosed) {
		t.Fatalf("%s: %v, though written: %v", what, err, written)
	}
}

func (m *model) forget(t *rapid.T) {
	id := rapid.SampledFrom([]string{appA, appB}).Draw(t, "app")
	err := m.real.Journal.Forget(id)
	written := true
	if m.memory[id] != nil {
		m.finals[id] = nil
		written = m.set(id, nil)
	} else if m.stale[id] {
		written = m.write()
	}
	m.outcome(t, "Forget", err, written)
}

func (m *model) sync(t *rapid.T) {
	m.outcome(t, "Sync", m.real.Journal.Sync(), len(m.stale) == 0 || m.write())
}

// fails and heals: the disk stops taking transactions, and takes them again.
func (m *model) failOrHeal(t *rapid.T) {
	if m.heal == nil {
		m.heal = replaced(t, m.dir)
	} else {
		m.heal()
		m.heal = nil
	}
}

// damage spoils the file while it is open; the next transaction makes a new one.
func (m *model) damage(t *rapid.T) {
	if m.heal != nil {
		return
	}
	m.now = m.now.Add(time.Hour)
	path := filepath.Join(m.dir, "journal.db")
	switch rapid.SampledFrom([]string{"delete", "delete all", "cut off"}).Draw(t, "damage") {
	case "delete":
		must(t, os.Remove(path))
	case "delete all":
		must(t, os.RemoveAll(m.dir))
	default:
		must(t, os.Truncate(path, int64(rapid.IntRange(0, 3*os.Getpagesize()-1).Draw(t, "size"))))
	}
	a := deepCopy(m.get(appA))
	a.NotBefore = m.now.Add(-time.Minute) // nothing else sets such a time
	m.set(appA, a)
	must(t, m.real.Journal.Do(appA, func(got *state.App) error { return got.Postpone(a.NotBefore) }))
}

// crash abandons the journal and starts on what is on disk.
func (m *model) crash(t *rapid.T) {
	if m.heal != nil {
		m.heal()
		m.heal = nil
	}
	dir := m.temp()
	must(t, os.CopyFS(dir, os.DirFS(m.dir)))
	must(t, m.real.Close())
	m.dir = dir
	m.start(t)
	m.memory = maps.Clone(m.disk)
	m.forgetLost()
}

// restart closes the journal, in order or on a failing disk, and starts again.
func (m *model) restart(t *rapid.T) {
	m.outcome(t, "Close", m.real.Close(), len(m.stale) == 0 || m.write())
	if m.heal != nil {
		m.heal()
		m.heal = nil
	}
	m.start(t)
	m.memory = maps.Clone(m.disk)
	m.forgetLost()
}

// forgetLost takes the verdicts that never reached the disk out of the account: Do said so.
func (m *model) forgetLost() {
	clear(m.stale)
	clear(m.finals)
	for id, a := range m.disk {
		for _, r := range a.Outbox {
			if r.Final() {
				m.finals[id] = append(m.finals[id], r)
			}
		}
	}
}

// The journal does what the book says, whatever comes: transitions that are allowed and some that are not, crashes,
// restarts, a disk that fails for a while, a file that breaks.
func TestJournal_byTheBook(t *testing.T) {
	base, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(rt, func() string {
			n++
			dir := filepath.Join(base, time.Duration(n).String())
			must(rt, os.Mkdir(dir, 0o700))
			return dir
		})
		defer func() { _ = m.real.Close() }() // the disk may still fail
		rt.Repeat(map[string]func(*rapid.T){
			"":             m.check,
			"Transition":   m.transition,
			"Transition 2": m.transition,
			"Transition 3": m.transition,
			"Transition 4": m.transition,
			"Transition 5": m.transition,
			"Transition 6": m.transition,
			"Transition 7": m.transition,
			"Transition 8": m.transition,
			"Forget":       m.forget,
			"Sync":         m.sync,
			"Fail or heal": m.failOrHeal,
			"Damage":       m.damage,
			"Crash":        m.crash,
			"Restart":      m.restart,
		})
	})
}
