package state_test

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/nebraska/omahaclient/internal/state"
)

// The rules of a record, written a second time and without looking at the first: as tables of what is allowed when, and
// plain assignments (book_test.go). The types alone are the journal's.

// outcome is what becomes of a transition.
type outcome int

const (
	taken outcome = iota
	nothing
	refused
)

// args are all that a transition may be given.
type args struct {
	version string // of the release that it is about
	channel string // that the app follows
	seq     uint64 // 0: the open update's
	report  state.Report
	payload string
	kind    state.WaitKind
	wait    bool // whether there is one
	now     time.Time
	until   time.Time
	boot    string
	fails   int
	burst   int
	base    string
	past    time.Time // to which the clock is put back
	shown   time.Time // by the clock, which may have been put back
	seqs    []uint64
}

func (x args) hold() state.Wait {
	return state.Wait{Kind: x.kind, Version: x.version, Identity: identity(x.version), Until: x.until, Failures: x.fails, Code: 40}
}

func (x args) maybe() *state.Wait {
	if !x.wait {
		return nil
	}
	w := x.hold()
	return &w
}

func (x args) update() state.Update {
	u := update(x.version)
	u.At, u.Channel = x.shown, x.channel
	return u
}

func (x args) of(a *state.App) uint64 { return seqOf(a) + x.seq }

// rule is one transition: the journal's, and the same by the book.
type rule struct {
	name   string
	in     string // phases in which it is allowed
	report string // outcome that the report must tell: progress, success, failure; "" for any
	do     func(*state.App, args) error
	book   func(*state.App, args) outcome
}

func (r rule) String() string { return r.name }

func tells(r state.Report) string {
	switch {
	case r.Type != 3:
		return "progress"
	case r.Result == 0:
		return "failure"
	default:
		return "success"
	}
}

// by returns what becomes of the transition, and of the record.
func (r rule) by(a *state.App, x args) (*state.App, outcome) {
	if !strings.Contains(r.in, phase(a)) || r.report != "" && tells(x.report) != r.report {
		return a, refused
	}
	c := deepCopy(a)
	switch got := r.book(c, x); got {
	case taken:
		return c, taken
	default:
		return a, got
	}
}

var rules = []rule{
	{"Grant", "-", "", func(a *state.App, x args) error { return a.Grant(x.update()) }, func(a *state.App, x args) outcome {
		a.LastSeq++
		u := x.update()
		u.Seq, u.Phase = a.LastSeq, state.Granted
		a.Update, a.Wedged = &u, false
		bookRelease(a, x.version)
		bookServed(a, x.shown)
		return taken
	}},
	{"Start", "gfFo", "progress", func(a *state.App, x args) error { return a.Start(x.of(a), x.report) }, ofUpdate(func(a *state.App, x args) outcome {
		if a.Update.Phase != state.Granted {
			return nothing
		}
		a.Update.Phase = state.Fetching
		bookQueue(a, x.report)
		return taken
	})},
	{"Finish", "fFo", "progress", func(a *state.App, x args) error {
		return a.Finish(x.of(a), json.RawMessage(x.payload), x.report)
	}, ofUpdate(func(a *state.App, x args) outcome {
		was := string(a.Update.Payloads)
		a.Update.Payloads = json.RawMessage(x.payload)
		switch {
		case x.payload == "":
			return refused
		case a.Update.Phase == state.Fetching:
			a.Update.Phase = state.Fetched
			bookQueue(a, x.report)
		case was == x.payload:
			return nothing
		}
		return taken
	})},
	{"Offer", "Fo", "", func(a *state.App, x args) error { return a.Offer(x.of(a)) }, ofUpdate(func(a *state.App, x args) outcome {
		a.Update.Phase = state.Offered
		a.Tried.Handed++
		return taken
	})},
	{"Rebase", "-gfFopr", "", func(a *state.App, x args) error { return a.Rebase(x.base) }, func(a *state.App, x args) outcome {
		if a.Base == x.base {
			return nothing
		}
		a.Base = x.base
		return taken
	}},
	{"Finish and Offer", "fFo", "progress", func(a *state.App, x args) error {
		return state.Together(
			func(a *state.App) error { return a.Finish(x.of(a), json.RawMessage(x.payload), x.report) },
			func(a *state.App) error { return a.Offer(x.of(a)) },
		)(a)
	}, ofUpdate(func(a *state.App, x args) outcome {
		if x.payload == "" {
			return refused
		}
		if a.Update.Phase == state.Fetching {
			bookQueue(a, x.report)
		}
		a.Update.Phase, a.Update.Payloads = state.Offered, json.RawMessage(x.payload)
		a.Tried.Handed++
		return taken
	})},
	{"Lift and Rebase", "-gfFopr", "", func(a *state.App, x args) error {
		return state.Together((*state.App).Lift, func(a *state.App) error { return a.Rebase(x.base) })(a)
	}, func(a *state.App, x args) outcome {
		lifted := a.Wait != nil && (a.Wait.Kind == state.WaitRefused || !a.Wait.Until.IsZero())
		if lifted {
			bookLapse(a.Wait)
		}
		if !lifted && a.Base == x.base {
			return nothing
		}
		a.Base = x.base
		return taken
	}},
	{"PutBack", "-gfFopr", "", func(a *state.App, x args) error { return a.PutBack(x.past) }, func(a *state.App, x args) outcome {
		ahead := a.LastCheck.Sub(x.past)
		far := a.NotBefore.Sub(x.past) > 24*time.Hour
		if ahead <= time.Hour && !far {
			return nothing
		}
		if far {
			a.NotBefore = time.Time{}
		}
		if ahead > 0 {
			if w := a.Wait; w != nil && !w.Until.IsZero() {
				if !w.PutBackFrom.After(a.LastCheck) {
					w.PutBackFrom, w.PutBackUntil = a.LastCheck, w.Until
				}
				w.PutBackUntil = w.PutBackUntil.Add(-ahead)
			}
			a.LastCheck = x.past
			if a.Seen != nil && a.Seen.At.After(x.past) {
				a.Seen.At = x.past
			}
		}
		return taken
	}},
	{"Succeed", "gfFo", "success", func(a *state.App, x args) error { return a.Succeed(x.of(a), x.report) },
		ofUpdate(func(a *state.App, x args) outcome { return bookSuccess(a, a.Update.Version, x.report) })},
	{"Fail", "gfFo", "failure", func(a *state.App, x args) error { return a.Fail(x.of(a), x.report, x.maybe()) },
		ofUpdate(func(a *state.App, x args) outcome { return bookFailure(a, a.Update.Version, x) })},
	{"Defer", "o", "failure", func(a *state.App, x args) error { return a.Defer(x.of(a), x.report, x.hold()) },
		ofUpdate(func(a *state.App, x args) outcome {
			x.wait = true
			return bookFailure(a, a.Update.Version, x)
		})},
	{"Install", "o", "progress", func(a *state.App, x args) error {
		return a.Install(x.of(a), state.Pending{At: x.now, Boot: x.boot}, x.report)
	}, ofUpdate(func(a *state.App, x args) outcome {
		u := a.Update
		a.Pending = &state.Pending{
			Version: u.Version, Previous: u.Previous, Channel: u.Channel, Identity: u.Identity, Session: u.Session,
			At: x.now, Boot: x.boot, NoWait: u.NoWait,
		}
		a.Update = nil
		bookQueue(a, x.report)
		return taken
	})},
	{"CountStart", "p", "", func(a *state.App, x args) error { return a.CountStart(x.boot) }, func(a *state.App, x args) outcome {
		a.Pending.Starts++
		a.Pending.Boot = x.boot
		return taken
	}},
	{"Runs", "pr", "", func(a *state.App, x args) error { return a.Runs() }, func(a *state.App, x args) outcome {
		if a.Pending.Runs {
			return nothing
		}
		a.Pending.Runs = true
		return taken
	}},
	{"Confirm", "pr", "success", func(a *state.App, x args) error { return a.Confirm(x.report) },
		func(a *state.App, x args) outcome { return bookSuccess(a, a.Pending.Version, x.report) }},
	{"Revert", "pr", "failure", func(a *state.App, x args) error { return a.Revert(x.report, x.maybe()) },
		func(a *state.App, x args) outcome { return bookFailure(a, a.Pending.Version, x) }},
	{"Refuse", "-", "failure", func(a *state.App, x args) error { return a.Refuse(x.report, x.hold()) }, func(a *state.App, x args) outcome {
		if x.kind == state.WaitAge && (a.Seen == nil || a.Seen.Identity != identity(x.version)) {
			a.Seen = &state.Seen{Identity: identity(x.version), At: x.report.At}
		}
		bookHold(a, x.hold(), x.channel, x.report.At)
		bookConclude(a, x.report)
		return taken
	}},
	{"Same", "-", "success", func(a *state.App, x args) error { return a.Same(x.report) }, func(a *state.App, x args) outcome {
		a.Wait, a.Tried, a.Seen = nil, nil, nil
		bookConclude(a, x.report)
		return taken
	}},
	{"Lift", "-gfFopr", "", func(a *state.App, x args) error { return a.Lift() }, func(a *state.App, x args) outcome {
		if a.Wait == nil || a.Wait.Kind != state.WaitRefused && a.Wait.Until.IsZero() {
			return nothing
		}
		bookLapse(a.Wait)
		return taken
	}},
	{"Checked", "-gfFopr", "", func(a *state.App, x args) error { return a.Checked(x.shown) }, func(a *state.App, x args) outcome {
		held := bookHeld(a, x.shown)
		if held {
			a.LastCheck = x.shown
		}
		helped := a.Last != nil && a.Last.Resends > 0 &&
			(x.shown.Before(a.Last.Resent) || !x.shown.Before(a.Last.Resent.Add(24*time.Hour)))
		if helped {
			a.Last.Resends = 0
		}
		if !bookServed(a, x.shown) && !held && !a.Wedged && !helped {
			return nothing
		}
		a.Wedged = false
		return taken
	}},
	{"Postpone", "-gfFopr", "", func(a *state.App, x args) error { return a.Postpone(x.until) }, func(a *state.App, x args) outcome {
		if a.NotBefore.Equal(x.until) {
			return nothing
		}
		a.NotBefore = x.until
		return taken
	}},
	{"Send", "-gfFopr", "", func(a *state.App, x args) error {
		for range x.burst {
			if err := a.Send(x.report); err != nil {
				return err
			}
		}
		return nil
	}, func(a *state.App, x args) outcome {
		if x.report.Type == 3 && phase(a) != "-" {
			return refused
		}
		waiting := x.burst
		for _, r := range a.Outbox {
			if r.User {
				waiting++
			}
		}
		if waiting > 48 {
			return refused
		}
		x.report.User = true
		for range x.burst {
			bookQueue(a, x.report)
		}
		return taken
	}},
	{"Delivered", "-gfFopr", "", func(a *state.App, x args) error { return a.Delivered(x.seqs...) }, func(a *state.App, x args) outcome {
		var left []state.Report
		for _, r := range a.Outbox {
			if !slices.Contains(x.seqs, r.Seq) {
				left = append(left, r)
			}
		}
		if len(left) == len(a.Outbox) {
			return nothing
		}
		a.Outbox = left
		return taken
	}},
	{"Wedge", "-", "failure", func(a *state.App, x args) error { return a.Wedge(x.report, 3) }, func(a *state.App, x args) outcome {
		for _, r := range a.Outbox {
			if r.Type == 3 {
				return nothing
			}
		}
		held := bookHeld(a, x.report.At)
		if held {
			a.LastCheck = x.report.At
		}
		switch {
		case a.Last != nil && a.Last.Resends == 3:
			if !held {
				return nothing
			}
		case a.Last != nil:
			r := a.Last.Report
			r.At, r.Channel = x.report.At, x.report.Channel
			a.Last.Resends++
			a.Last.Resent = x.report.At
			bookQueue(a, r)
		case a.Wedged:
			bookConclude(a, x.report)
			a.Last.Resends, a.Last.Resent = 1, x.report.At
		default:
			a.Wedged = true
		}
		return taken
	}},
}

// drawArgs draws what a transition is given; mostly what fits.
func drawArgs(t *rapid.T, r rule, a *state.App, now time.Time) args {
	reports := []state.Report{started, finished, ready, complete, restart, failure}
	fits := slices.DeleteFunc(slices.Clone(reports), func(q state.Report) bool { return r.report != "" && tells(q) != r.report })
	if rapid.IntRange(0, 9).Draw(t, "any report") == 0 {
		fits = reports
	}
	x := args{
		version: rapid.SampledFrom([]string{"2.0.0", "2.1.0", "3.0.0"}).Draw(t, "version"),
		channel: rapid.SampledFrom([]string{"", "stable", "beta"}).Draw(t, "channel"),
		report:  at(rapid.SampledFrom(fits).Draw(t, "report"), now),
		payload: rapid.SampledFrom([]string{`[1]`, `[1]`, `[2]`, ``}).Draw(t, "payload"),
		kind:    rapid.SampledFrom([]state.WaitKind{state.WaitBackoff, state.WaitRefused, state.WaitDefer, state.WaitAge}).Draw(t, "kind"),
		wait:    rapid.Bool().Draw(t, "wait"),
		now:     now,
		boot:    rapid.SampledFrom([]string{"", "boot-1", "boot-2"}).Draw(t, "boot"),
		fails:   rapid.IntRange(0, 5).Draw(t, "failures"),
		base:    rapid.SampledFrom([]string{"", identity("2.0.0"), identity("3.0.0")}).Draw(t, "base"),
		past:    now.Add(-time.Duration(rapid.IntRange(0, 20).Draw(t, "hours put back")) * time.Hour),
		burst:   rapid.SampledFrom([]int{1, 1, 1, 10, 40, 60}).Draw(t, "burst"),
	}
	x.shown = rapid.SampledFrom([]time.Time{x.now, x.past}).Draw(t, "clock")
	x.report.Channel = x.channel
	if a.Update != nil && rapid.IntRange(0, 3).Draw(t, "any release") > 0 {
		x.version = a.Update.Version
	}
	if hours := rapid.IntRange(0, 30).Draw(t, "hours"); hours > 0 {
		x.until = now.Add(time.Duration(hours) * time.Hour)
	}
	if rapid.IntRange(0, 9).Draw(t, "another grant") == 0 {
		x.seq = 1
	}
	if n := len(a.Outbox); n > 0 {
		for range rapid.IntRange(0, 3).Draw(t, "delivered") {
			x.seqs = append(x.seqs, a.Outbox[rapid.IntRange(0, n-1).Draw(t, "which")].Seq)
		}
	}
	return x
}
