package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nebraska/omahaclient/internal/state"
)

// Goroutines that write at the same time share transactions; each app's transitions stay in order, and whatever Do has
// returned from is on disk.
func TestDo_sharesTransactions(t *testing.T) {
	const workers, each = 16, 60
	dir := t.TempDir()
	d := open(t, dir)
	var wg sync.WaitGroup
	for w := range workers {
		id := fmt.Sprintf("io.example.app-%d", w/2) // two goroutines an app
		wg.Go(func() {
			for n := range each {
				if err := d.Journal.Do(id, send(at(started, epoch.Add(time.Duration(n)))).do); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	on := all(t, crashed(t, dir).Journal)
	sameRecords(t, "after a crash", on, all(t, d.Journal))
	must(t, d.Close())
	sameRecords(t, "reopened", all(t, open(t, dir).Journal), on)
	for id := range on {
		a := d.Journal.Get(id)
		want(t, "numbers of "+id, a.LastSeq, 2*each)
		rising(t, a)
	}
	n := transactions(t, snapshot(t, dir))
	t.Logf("%d transitions in %d transactions", workers*each, n)
	if n > workers*each/2 {
		t.Errorf("%d transactions for %d transitions", n, workers*each)
	}
}

// What Do has returned from survives a crash at that very moment, whatever other goroutines write.
func TestDo_isDurableWhenItReturns(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					must(t, d.Journal.Do(fmt.Sprintf("io.example.noise-%d", w), send(started).do))
				}
			}
		})
	}
	for range 50 {
		a := take(t, d.Journal, appA, toOffered...)
		must(t, d.Journal.Do(appA, func(a *state.App) error { return a.Succeed(seqOf(a), complete) }))
		// The file changes while it is read; its pages of before that are not reused within two transactions, and the
		// copy is tried again until it got a moment between them.
		for {
			b, err := os.ReadFile(filepath.Join(dir, "journal.db"))
			must(t, err)
			apps, err := state.ReadJournal(bytes.NewReader(b), int64(len(b)), machine)
			if err != nil {
				continue
			}
			if got := apps[appA]; got == nil || got.LastSeq < a.LastSeq+1 {
				t.Fatalf("the verdict is not on disk: %v", got)
			}
			break
		}
	}
	close(stop)
	wg.Wait()
}

// A transition that changes nothing still returns only when what it would have changed is on disk.
func TestDo_unchangedWaitsForTheDisk(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	take(t, d.Journal, appA, toInstalled...)
	restore := replaced(t, dir)
	if err := d.Journal.Do(appA, runs.do); err == nil {
		t.Fatal("written into a file that is not ours")
	}
	want(t, "in memory", d.Journal.Get(appA).Pending.Runs, true)
	if err := d.Journal.Do(appA, runs.do); err == nil {
		t.Error("nothing to write, it says, though it is not on disk")
	}
	restore()
	take(t, d.Journal, appA, runs)
	want(t, "on disk", crashed(t, dir).Journal.Get(appA).Pending.Runs, true)
}

// replaced puts another file in the journal's place, so that transactions fail until restore puts it back.
func replaced(t rapid.TB, dir string) (restore func()) {
	t.Helper()
	name := filepath.Join(dir, "journal.db")
	must(t, os.Rename(name, name+".hidden"))
	must(t, os.WriteFile(name, []byte("somebody else's"), 0o600))
	return func() {
		t.Helper()
		content, err := os.ReadFile(name)
		must(t, err)
		want(t, "the other file", string(content), "somebody else's")
		must(t, os.Rename(name+".hidden", name))
	}
}

// A transaction that fails returns the cause; its records stand in memory, and are written with the next one, or by Sync
// or Close.
func TestDo_failedTransactionIsWrittenAgain(t *testing.T) {
	for _, tc := range []struct {
		name  string
		again func(*state.Dir) error
	}{
		{"by Sync", func(d *state.Dir) error { return d.Journal.Sync() }},
		{"by another app's transition", func(d *state.Dir) error { return d.Journal.Do(appB, send(started).do) }},
		{"by its own next transition", func(d *state.Dir) error { return d.Journal.Do(appA, send(started).do) }},
		{"by Close", (*state.Dir).Close},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, dir)
			j := d.Journal
			take(t, j, appA, toOffered...)
			take(t, j, appB, sendInfo)
			on := all(t, crashed(t, dir).Journal)

			restore := replaced(t, dir)
			err := j.Do(appA, succeed.do)
			if err == nil || errors.Is(err, state.ErrTransition) || errors.Is(err, state.ErrClosed) {
				t.Fatalf("error %v; want the cause", err)
			}
			if err := j.Forget(appB); err == nil {
				t.Fatal("forgotten without a word")
			}
			want(t, "version in memory", j.Get(appA).Version, "2.0.0")
			want(t, "events in memory of what is forgotten", len(j.Get(appB).Outbox), 0)
			if err := j.Sync(); err == nil {
				t.Error("Sync wrote into a file that is not ours")
			}
			restore()
			sameRecords(t, "on disk so far", all(t, crashed(t, dir).Journal), on)

			must(t, tc.again(d))
			sameRecords(t, "on disk at last", all(t, crashed(t, dir).Journal), all(t, j))
			must(t, j.Sync())
		})
	}
}

func TestForget_removesTheRecord(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	take(t, d.Journal, appA, toOffered...)
	take(t, d.Journal, appB, sendInfo)
	must(t, d.Journal.Forget(appA))
	must(t, d.Journal.Forget("io.example.unknown"))
	want(t, "records", len(d.Journal.IDs()), 1)
	want(t, "record", text(t, d.Journal.Get(appA)), text(t, &state.App{}))
	sameRecords(t, "reopened", all(t, crashed(t, dir).Journal), all(t, d.Journal))
}

// A record that was read is never changed again.
func TestGet_recordsAreImmutable(t *testing.T) {
	j := journal(t)
	steps := append(append([]step{}, toInstalled...), runs, confirm)
	records := []*state.App{j.Get(appA)}
	texts := []string{text(t, j.Get(appA))}
	for _, s := range steps {
		a := take(t, j, appA, s)
		records, texts = append(records, a), append(texts, text(t, a))
	}
	deliverAll(t, j)
	take(t, j, appA, wedge, grant("3.0.0"), start)
	for i, a := range records {
		want(t, fmt.Sprintf("record %d", i), text(t, a), texts[i])
	}
}

func TestClose_refusesTransitions(t *testing.T) {
	d := open(t, t.TempDir())
	take(t, d.Journal, appA, sendInfo)
	must(t, d.Close())
	must(t, d.Close())
	wantErr(t, d.Journal.Do(appA, sendInfo.do), state.ErrClosed)
	wantErr(t, d.Journal.Forget(appA), state.ErrClosed)
	must(t, d.Journal.Sync())
	want(t, "events, still", len(d.Journal.Get(appA).Outbox), 1)
}

// Close lets the transitions that are being written end.
func TestClose_whileWriting(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	var wg sync.WaitGroup
	took := make([]int, 8)
	ready := make(chan struct{}, len(took))
	for w := range took {
		wg.Go(func() {
			for {
				err := d.Journal.Do(fmt.Sprint("io.example.", w), send(started).do)
				if errors.Is(err, state.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if took[w]++; took[w] == 3 {
					ready <- struct{}{}
				}
			}
		})
	}
	for range took {
		<-ready
	}
	must(t, d.Close())
	wg.Wait()
	again := open(t, dir)
	for w, n := range took {
		want(t, "reports written", again.Journal.Get(fmt.Sprint("io.example.", w)).LastSeq, uint64(n))
	}
}

func TestGet_unknownApp(t *testing.T) {
	j := journal(t)
	want(t, "record", text(t, j.Get("io.example.unknown")), text(t, &state.App{}))
	want(t, "records", len(j.IDs()), 0)
}
