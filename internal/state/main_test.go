package state_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/nebraska/omahaclient/internal/state"
)

// childEnv names what a child process of a test is to do.
const childEnv = "OMAHACLIENT_STATE_CHILD"

// children are the processes that tests start, by name; they return what went wrong.
func children() map[string]func(args []string) error {
	all := map[string]func([]string) error{"hold": holdDir, "race": raceForDir}
	maps.Copy(all, diskChildren())
	return all
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := children()[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child prepares a process of this test's own.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = &testLog{t: t}
	return cmd
}

type testLog struct{ t *testing.T }

func (l *testLog) Write(b []byte) (int, error) {
	l.t.Logf("child: %s", bytes.TrimSpace(b))
	return len(b), nil
}

const (
	appA    = "io.example.a"
	appB    = "io.example.b"
	machine = "machine-1"
)

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t rapid.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v; want one that is %v", err, want)
	}
}

func want[T comparable](t rapid.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v; want %v", what, got, want)
	}
}

// logged collects what is logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// open opens a directory of machine's, and closes it with the test.
func open(t testing.TB, path string) *state.Dir {
	t.Helper()
	d, err := state.Open(path, machine, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

// journal opens the journal of a directory of the test's own.
func journal(t testing.TB) *state.Journal {
	t.Helper()
	return open(t, t.TempDir()).Journal
}

// crashed copies a directory as a crash would leave it, and opens the copy.
func crashed(t testing.TB, path string) *state.Dir {
	t.Helper()
	return open(t, snapshot(t, path))
}

func snapshot(t testing.TB, path string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(path)))
	return to
}

// setAside lists the names of the files that were set aside in a directory.
func setAside(t testing.TB, path string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, "journal.db.set-aside-*"))
	must(t, err)
	return names
}

// transactions tells how many transactions a journal has seen.
func transactions(t testing.TB, path string) uint64 {
	t.Helper()
	f, err := os.Open(filepath.Join(path, "journal.db"))
	must(t, err)
	defer f.Close()
	n, err := state.Transactions(f)
	must(t, err)
	return n
}

// text is a record as it is written.
func text(t rapid.TB, a *state.App) string {
	t.Helper()
	b, err := json.Marshal(a)
	must(t, err)
	return string(b)
}

// all is the whole journal as it is written.
func all(t rapid.TB, j *state.Journal) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, id := range j.IDs() {
		m[id] = text(t, j.Get(id))
	}
	return m
}

func sameRecords(t rapid.TB, what string, got, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d records; want %d", what, len(got), len(want))
	}
	for id, w := range want {
		if got[id] != w {
			t.Errorf("%s: app %s\n got %s\nwant %s", what, id, got[id], w)
		}
	}
}

// The reports of an update.
var (
	epoch    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	started  = state.Report{Type: 13, Result: 1, At: epoch}
	finished = state.Report{Type: 14, Result: 1, At: epoch}
	ready    = state.Report{Type: 800, Result: 1, At: epoch}
	complete = state.Report{Type: 3, Result: 1, At: epoch}
	restart  = state.Report{Type: 3, Result: 2, At: epoch}
	failure  = state.Report{Type: 3, Result: 0, Code: 1, At: epoch}
	payloads = json.RawMessage(`[{"Name":"a"}]`)
)

func at(r state.Report, now time.Time) state.Report {
	r.At = now
	return r
}

// identity is what a release of the tests is known by.
func identity(version string) string { return "id-" + version }

func update(version string) state.Update {
	return state.Update{
		Version: version, Previous: "1.0.0", Channel: "stable", Identity: identity(version), Session: "s",
		Manifest: json.RawMessage(`{"Version":"` + version + `"}`), At: epoch,
	}
}

func waiting(kind state.WaitKind, version string, until time.Time) state.Wait {
	return state.Wait{Kind: kind, Version: version, Identity: identity(version), Until: until, Code: 40, Reason: "test"}
}

// step is a transition of a record, and its name.
type step struct {
	name string
	do   func(*state.App) error
}

// seqOf is the number of the record's open update; 0 for none.
func seqOf(a *state.App) uint64 {
	if a.Update == nil {
		return 0
	}
	return a.Update.Seq
}

// The steps of an update of version.
func grant(version string) step {
	return step{"Grant", func(a *state.App) error { return a.Grant(update(version)) }}
}

var (
	start       = step{"Start", func(a *state.App) error { return a.Start(seqOf(a), started) }}
	finish      = step{"Finish", func(a *state.App) error { return a.Finish(seqOf(a), payloads, finished) }}
	offer       = step{"Offer", func(a *state.App) error { return a.Offer(seqOf(a)) }}
	succeed     = step{"Succeed", func(a *state.App) error { return a.Succeed(seqOf(a), complete) }}
	fail        = step{"Fail", func(a *state.App) error { return a.Fail(seqOf(a), failure, nil) }}
	install     = step{"Install", func(a *state.App) error { return a.Install(seqOf(a), state.Pending{At: epoch, Boot: "b"}, ready) }}
	countStart  = step{"CountStart", func(a *state.App) error { return a.CountStart("b") }}
	runs        = step{"Runs", (*state.App).Runs}
	confirm     = step{"Confirm", func(a *state.App) error { return a.Confirm(restart) }}
	revert      = step{"Revert", func(a *state.App) error { return a.Revert(failure, nil) }}
	same        = step{"Same", func(a *state.App) error { return a.Same(complete) }}
	wedge       = step{"Wedge", func(a *state.App) error { return a.Wedge(failure, 3) }}
	lift        = step{"Lift", (*state.App).Lift}
	sendInfo    = step{"Send progress", func(a *state.App) error { return a.Send(started) }}
	sendFinal   = step{"Send final", func(a *state.App) error { return a.Send(complete) }}
	toGranted   = []step{grant("2.0.0")}
	toFetching  = append(toGranted[:1:1], start)
	toFetched   = append(toFetching[:2:2], finish)
	toOffered   = append(toFetched[:3:3], offer)
	toInstalled = append(toOffered[:4:4], install)
	toRunning   = append(toInstalled[:5:5], runs)
)

// prepare does steps that must succeed in one transaction.
func prepare(t testing.TB, j *state.Journal, id string, steps ...step) *state.App {
	t.Helper()
	must(t, j.Do(id, func(a *state.App) error {
		for _, s := range steps {
			if err := s.do(a); err != nil {
				return err
			}
		}
		return nil
	}))
	return j.Get(id)
}

// take does steps that must succeed, each in a transaction.
func take(t testing.TB, j *state.Journal, id string, steps ...step) *state.App {
	t.Helper()
	for _, s := range steps {
		if err := j.Do(id, s.do); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
	}
	return j.Get(id)
}

// events lists an app's outbox as type/result:code.
func events(a *state.App) string {
	var list []string
	for _, r := range a.Outbox {
		e := fmt.Sprintf("%d/%d", r.Type, r.Result)
		if r.Code != 0 {
			e += fmt.Sprintf(":%d", r.Code)
		}
		list = append(list, e)
	}
	return strings.Join(list, " ")
}
