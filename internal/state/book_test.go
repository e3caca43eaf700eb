package state_test

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

// phase names the state that a record is in, by a letter of the tables below.
func phase(a *state.App) string {
	switch {
	case a.Pending != nil && a.Pending.Runs:
		return "r"
	case a.Pending != nil:
		return "p"
	case a.Update == nil:
		return "-"
	default:
		return map[state.Phase]string{state.Granted: "g", state.Fetching: "f", state.Fetched: "F", state.Offered: "o"}[a.Update.Phase]
	}
}

func deepCopy(a *state.App) *state.App {
	b, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	c := &state.App{}
	if err := json.Unmarshal(b, c); err != nil {
		panic(err)
	}
	return c
}

func bookQueue(a *state.App, r state.Report) {
	a.LastSeq++
	r.Seq = a.LastSeq
	var intermediate, ours []int
	for i, q := range a.Outbox {
		if !q.User && q.Type != 3 {
			intermediate = append(intermediate, i)
		}
		if !q.User {
			ours = append(ours, i)
		}
	}
	a.Outbox = append(a.Outbox, r)
	switch n := len(a.Outbox); {
	case n > 64 && len(intermediate) > 0:
		a.Outbox = slices.Delete(a.Outbox, intermediate[0], intermediate[0]+1)
	case n > 256:
		a.Outbox = slices.Delete(a.Outbox, ours[0], ours[0]+1)
	}
}

func bookConclude(a *state.App, r state.Report) {
	bookQueue(a, r)
	r.Seq = a.LastSeq
	a.Last = &state.Verdict{Report: r}
	a.Wedged = false
}

// bookRelease makes a release the one that counts.
func bookRelease(a *state.App, version string) {
	if a.Tried == nil || a.Tried.Version != version {
		a.Tried = &state.Tried{Version: version, Identity: identity(version)}
		a.Wait = nil
	}
}

func bookHold(a *state.App, w state.Wait, channel string, now time.Time) {
	bookRelease(a, w.Version)
	if a.Wait != nil && a.Wait.Failures > w.Failures {
		w.Failures = a.Wait.Failures
	}
	w.Channel = &channel
	a.Wait, a.LastCheck = &w, now
}

func bookHeld(a *state.App, now time.Time) bool {
	w := a.Wait
	if w == nil || w.Kind == state.WaitRefused {
		return w != nil
	}
	until := w.Until
	if w.PutBackFrom.After(now) {
		until = w.PutBackUntil
	}
	return until.After(now)
}

func bookLapse(w *state.Wait) {
	w.Kind, w.Until, w.PutBackFrom, w.PutBackUntil = state.WaitBackoff, time.Time{}, time.Time{}, time.Time{}
}

// bookServed ends a wait that is over by the clock that was put back, and tells whether there was one.
func bookServed(a *state.App, now time.Time) bool {
	if a.Wait == nil || !a.Wait.PutBackFrom.After(now) || bookHeld(a, now) {
		return false
	}
	bookLapse(a.Wait)
	return true
}

func bookSuccess(a *state.App, version string, r state.Report) outcome {
	before := *a
	*a = state.App{
		Version: version, LastSeq: before.LastSeq, Outbox: before.Outbox, NotBefore: before.NotBefore, LastCheck: before.LastCheck, Base: before.Base,
	}
	bookConclude(a, r)
	return taken
}

func bookFailure(a *state.App, version string, x args) outcome {
	if x.wait && x.version != version {
		return refused
	}
	channel := x.channel
	if a.Update != nil {
		channel = a.Update.Channel
	} else if a.Pending != nil {
		channel = a.Pending.Channel
	}
	a.Update, a.Pending = nil, nil
	if x.wait {
		bookHold(a, x.hold(), channel, x.report.At)
	}
	bookConclude(a, x.report)
	return taken
}

// open is the book's for a transition of the open update.
func ofUpdate(book func(*state.App, args) outcome) func(*state.App, args) outcome {
	return func(a *state.App, x args) outcome {
		if x.seq != 0 {
			return refused
		}
		return book(a, x)
	}
}
