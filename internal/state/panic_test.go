package state_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/nebraska/omahaclient/internal/state"
)

// panicky is a log handler that panics at the next line with this message.
type panicky struct{ at *string }

func (p panicky) Enabled(context.Context, slog.Level) bool { return true }
func (p panicky) WithAttrs([]slog.Attr) slog.Handler       { return p }
func (p panicky) WithGroup(string) slog.Handler            { return p }

func (p panicky) Handle(_ context.Context, r slog.Record) error {
	if r.Message == *p.at {
		*p.at = ""
		panic(r.Message)
	}
	return nil
}

// panics calls fn and reports whether it panicked.
func panics(fn func()) (did bool) {
	defer func() { did = recover() != nil }()
	fn()
	return false
}

// A log handler that panics locks nothing: what it interrupted stands in memory, and is written with what comes next, or
// with Close.
func TestDo_logHandlerPanics(t *testing.T) {
	const rebuilt = "journal broke while it was open, writing what it held again from memory"
	for _, message := range []string{"journal transaction begins", "journal transaction written", rebuilt} {
		for _, next := range []string{"another transition", "Close", "Close, which panics as well"} {
			t.Run(message+", then "+next, func(t *testing.T) {
				dir, at := t.TempDir(), new(string)
				d, err := state.Open(dir, machine, slog.New(panicky{at: at}))
				must(t, err)
				prepare(t, d.Journal, appB, toOffered...)
				if message == rebuilt {
					must(t, os.Remove(filepath.Join(dir, "journal.db")))
				}
				*at = message
				want(t, "panic", panics(func() { _ = d.Journal.Do(appA, sendInfo.do) }), true)
				want(t, "reports in memory", events(d.Journal.Get(appA)), "13/1")
				switch next {
				case "another transition":
					take(t, d.Journal, appA, sendInfo)
				case "Close, which panics as well":
					*at = "journal transaction written"
					want(t, "panic of Close", panics(func() { _ = d.Close() }), true)
				}
				must(t, d.Close())
				memory := all(t, d.Journal)
				sameRecords(t, "reopened", all(t, open(t, dir).Journal), memory)
			})
		}
	}
}

// A start that a log handler's panic ends keeps the directory from nobody.
func TestOpen_logHandlerPanics(t *testing.T) {
	for _, message := range []string{
		"journal transaction begins", "journal transaction written", "journal set aside, starting afresh from the server's copy",
	} {
		t.Run(message, func(t *testing.T) {
			dir, at := t.TempDir(), new(string)
			must(t, os.WriteFile(filepath.Join(dir, "journal.db"), []byte("junk"), 0o600))
			*at = message
			want(t, "panic", panics(func() { _, _ = state.Open(dir, machine, slog.New(panicky{at: at})) }), true)
			take(t, open(t, dir).Journal, appA, sendInfo)
		})
	}
}

// Whoever waits for a transaction that a panic cut short is told.
func TestDo_logHandlerPanicsForOthers(t *testing.T) {
	at := new(string)
	d, err := state.Open(t.TempDir(), machine, slog.New(panicky{at: at}))
	must(t, err)
	defer func() { must(t, d.Close()) }()
	*at = "journal transaction begins"
	const n = 8
	told, panicked := make(chan bool, n), make(chan bool, n)
	for range n {
		go func() {
			var err error
			panicked <- panics(func() { err = d.Journal.Do(appA, sendInfo.do) })
			told <- err != nil
		}()
	}
	count := func(c chan bool) (yes int) {
		for range n {
			if <-c {
				yes++
			}
		}
		return yes
	}
	want(t, "panics", count(panicked), 1)
	t.Logf("%d others were told", count(told))
	want(t, "reports", len(d.Journal.Get(appA).Outbox), n)
}

// A transition that panics changes nothing.
func TestDo_transitionPanics(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	before := text(t, prepare(t, d.Journal, appA, toOffered...))
	want(t, "panic", panics(func() {
		_ = d.Journal.Do(appA, func(a *state.App) error {
			must(t, a.Send(started))
			a.Update.Phase, a.Tried.Handed, a.Outbox[0].Code = state.Granted, 7, 7
			panic("transition")
		})
	}), true)
	want(t, "record", text(t, d.Journal.Get(appA)), before)
	want(t, "record on disk", text(t, crashed(t, dir).Journal.Get(appA)), before)
	take(t, d.Journal, appA, install)
}
