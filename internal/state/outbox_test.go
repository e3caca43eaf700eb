package state_test

import (
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

func send(r state.Report) step {
	return step{"Send", func(a *state.App) error {
		if len(a.Outbox) >= state.MaxSent { // room for any number of them
			if err := a.Delivered(a.Outbox[0].Seq); err != nil {
				return err
			}
		}
		return a.Send(r)
	}}
}

// offlineUpdate is an update that fails: two intermediate reports and a verdict.
func offlineUpdate(a *state.App) error {
	for _, s := range append(toFetched[:3:3], fail) {
		if err := s.do(a); err != nil {
			return err
		}
	}
	return nil
}

func count(a *state.App, which func(state.Report) bool) (n int) {
	for _, r := range a.Outbox {
		if which(r) {
			n++
		}
	}
	return n
}

func ours(r state.Report) bool  { return !r.User && !r.Final() }
func users(r state.Report) bool { return r.User && !r.Final() }

func rising(t *testing.T, a *state.App) {
	t.Helper()
	for i := range a.Outbox[1:] {
		if a.Outbox[i].Seq >= a.Outbox[i+1].Seq {
			t.Fatalf("outbox out of order: %d before %d", a.Outbox[i].Seq, a.Outbox[i+1].Seq)
		}
	}
}

// A machine that is offline for a month keeps its verdicts, and loses intermediate reports.
func TestOutbox_offlineForAMonth(t *testing.T) {
	a := &state.App{}
	const updates = 100 // fewer than the bound on verdicts
	for range updates {
		must(t, offlineUpdate(a))
	}
	want(t, "verdicts", count(a, state.Report.Final), updates)
	want(t, "intermediate reports", count(a, ours), 0)
	must(t, a.Grant(update("2.0.0")))
	must(t, a.Start(seqOf(a), started))
	want(t, "intermediate reports of the open update", count(a, ours), 1)
	rising(t, a)
	must(t, a.Sound())
}

// The program was told that its events are on disk: they stay there until they are delivered, however many of ours come.
func TestOutbox_keepsTheProgramsOwn(t *testing.T) {
	a := &state.App{}
	for range state.MaxSent {
		must(t, a.Send(started))
	}
	wantErr(t, a.Send(started), state.ErrFull)
	wantErr(t, a.Send(failure), state.ErrFull)
	want(t, "the program's own", count(a, users), state.MaxSent)
	for range state.MaxFinalReports {
		must(t, offlineUpdate(a))
		want(t, "the program's own", count(a, users), state.MaxSent)
	}
	want(t, "length", len(a.Outbox), state.MaxFinalReports)
	want(t, "the newest stays", a.Outbox[len(a.Outbox)-1], a.Last.Report)
	rising(t, a)
	must(t, a.Sound())
	must(t, a.Delivered(a.Outbox[0].Seq))
	must(t, a.Send(started)) // there is room again
}

// Of our own, intermediate reports are dropped before any verdict, the oldest first.
func TestOutbox_dropsIntermediateReportsOfOurs(t *testing.T) {
	a := &state.App{}
	must(t, a.Grant(update("2.0.0")))
	must(t, a.Start(seqOf(a), started))
	must(t, a.Finish(seqOf(a), payloads, finished))
	must(t, a.Fail(seqOf(a), failure, nil))
	for range state.MaxSent {
		must(t, a.Send(started))
	}
	for len(a.Outbox)+3 <= state.MaxReports {
		must(t, offlineUpdate(a))
	}
	verdicts := count(a, state.Report.Final)
	want(t, "ours", count(a, ours), 2*verdicts)
	before := a.Outbox[0].Seq
	must(t, offlineUpdate(a))
	want(t, "verdicts", count(a, state.Report.Final), verdicts+1)
	want(t, "the oldest of ours went", a.Outbox[0].Seq > before, true)
	want(t, "length", len(a.Outbox), state.MaxReports)
	rising(t, a)
	must(t, a.Sound())
}

// Verdicts are dropped only where there is no end of them, the oldest first; the newest report never.
func TestOutbox_boundOnVerdicts(t *testing.T) {
	a := &state.App{}
	for range state.MaxFinalReports {
		must(t, offlineUpdate(a))
	}
	want(t, "verdicts up to the bound", count(a, state.Report.Final), state.MaxFinalReports)
	first := a.Outbox[0].Seq
	must(t, offlineUpdate(a))
	want(t, "verdicts", count(a, state.Report.Final), state.MaxFinalReports)
	want(t, "the oldest went", a.Outbox[0].Seq > first, true)
	want(t, "the newest stays", a.Outbox[len(a.Outbox)-1], a.Last.Report)
	rising(t, a)
	must(t, a.Sound())
}

func TestDelivered_strikesOutTheseAlone(t *testing.T) {
	a := &state.App{}
	for range 3 {
		must(t, a.Send(started))
	}
	seqs := []uint64{a.Outbox[0].Seq, a.Outbox[2].Seq}
	kept := a.Outbox[1].Seq
	must(t, a.Delivered(seqs...))
	want(t, "reports left", len(a.Outbox), 1)
	want(t, "report left", a.Outbox[0].Seq, kept)
}

// deliverAll is what a server does that takes every report, whatever it makes of it.
func deliverAll(t *testing.T, j *state.Journal) {
	t.Helper()
	must(t, j.Do(appA, func(a *state.App) error {
		var seqs []uint64
		for _, r := range a.Outbox {
			seqs = append(seqs, r.Seq)
		}
		return a.Delivered(seqs...)
	}))
}

func TestWedge_sendsTheLastVerdictAgain(t *testing.T) {
	for _, tc := range []struct {
		name string
		path []step
		want string
	}{
		{"a success stays one", append(toOffered[:4:4], succeed), "3/1"},
		{"a confirmed restart", append(toInstalled[:5:5], confirm), "3/2"},
		{"a failure", append(toOffered[:4:4], fail), "3/0:1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, dir)
			j := d.Journal
			take(t, j, appA, tc.path...)
			for range 3 {
				deliverAll(t, j)
				a := take(t, j, appA, wedge)
				want(t, "events", events(a), tc.want)
				if again := take(t, j, appA, wedge); again != a {
					t.Error("sent once more although it is under way")
				}
			}
			deliverAll(t, j)
			if a := take(t, j, appA, wedge, wedge, wedge); len(a.Outbox) != 0 {
				t.Errorf("a fourth time: %s", events(a))
			}
			must(t, d.Close())
			if a := take(t, open(t, dir).Journal, appA, wedge); len(a.Outbox) != 0 {
				t.Errorf("a fourth time after a restart: %s", events(a))
			}
		})
	}
}

func TestWedge_freesAtTheSecondSightingInARow(t *testing.T) {
	check := step{"Checked", func(a *state.App) error { return a.Checked(epoch) }}
	for _, tc := range []struct {
		name  string
		steps []step
		want  string
	}{
		{"once", []step{wedge}, ""},
		{"twice", []step{wedge, wedge}, "3/0:1"},
		{"not in a row", []step{wedge, check, wedge}, ""},
		{"in a row at last", []step{wedge, check, wedge, wedge}, "3/0:1"},
		{"with an update between", append(append([]step{wedge}, toOffered...), succeed, wedge), "13/1 14/1 3/1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want(t, "events", events(take(t, journal(t), appA, tc.steps...)), tc.want)
		})
	}
}

func TestWedge_freesThreeTimesInAll(t *testing.T) {
	j := journal(t)
	sent := 0
	for range 10 {
		sent += len(take(t, j, appA, wedge).Outbox)
		deliverAll(t, j)
	}
	want(t, "times freed", sent, 3)
}

// A wedge during a backoff does not make its checks more frequent.
func TestWedge_countsAsACheck(t *testing.T) {
	j := journal(t)
	w := waiting(state.WaitBackoff, "2.0.0", epoch.Add(48*time.Hour))
	take(t, j, appA, step{"Refuse", func(a *state.App) error { return a.Refuse(failure, w) }})
	for i := range 6 {
		deliverAll(t, j)
		now := epoch.Add(time.Duration(i+1) * time.Hour)
		a := take(t, j, appA, step{"Wedge", func(a *state.App) error { return a.Wedge(at(failure, now), 3) }})
		want(t, "last check", a.LastCheck, now)
	}
}

// Before Send refused any, an outbox could hold the program's own alone, as many as it takes: our next one still finds room.
func TestOutbox_fullOfTheProgramsOwn(t *testing.T) {
	a := &state.App{}
	for range state.MaxFinalReports {
		a.LastSeq++
		a.Outbox = append(a.Outbox, state.Report{Seq: a.LastSeq, Type: 1, Result: 1, At: epoch, User: true})
	}
	must(t, a.Sound())
	must(t, same.do(a))
	must(t, a.Sound())
	want(t, "reports", len(a.Outbox), state.MaxFinalReports)
	want(t, "the newest is ours", a.Outbox[len(a.Outbox)-1].Final(), true)
}
