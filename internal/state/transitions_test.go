package state_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

// Every transition in every state of an update: taken, without anything to write, or refused.
func TestTransitions_legalAndIllegal(t *testing.T) {
	const (
		taken   = 't' // and written
		nothing = 'n' // there is nothing to write
		refused = 'r'
	)
	states := []struct {
		name string
		path []step
	}{
		{"none", nil},
		{"granted", toGranted},
		{"fetching", toFetching},
		{"fetched", toFetched},
		{"offered", toOffered},
		{"installed", toInstalled},
		{"running", toRunning},
	}
	refusal := step{"Refuse", func(a *state.App) error {
		return a.Refuse(failure, waiting(state.WaitRefused, "2.0.0", time.Time{}))
	}}
	deferral := step{"Defer", func(a *state.App) error {
		return a.Defer(seqOf(a), failure, waiting(state.WaitDefer, "2.0.0", epoch.Add(time.Hour)))
	}}
	dir := t.TempDir()
	d := open(t, dir)
	for _, tc := range []struct {
		step
		want string // a letter for each of the states
	}{
		{grant("2.0.0"), "trrrrrr"},
		{grant("3.0.0"), "trrrrrr"},
		{start, "rtnnnrr"},
		{finish, "rrtnnrr"},
		{offer, "rrrttrr"},
		{succeed, "rttttrr"},
		{fail, "rttttrr"},
		{deferral, "rrrrtrr"},
		{install, "rrrrtrr"},
		{countStart, "rrrrrtr"},
		{runs, "rrrrrtn"},
		{confirm, "rrrrrtt"},
		{revert, "rrrrrtt"},
		{refusal, "trrrrrr"},
		{same, "trrrrrr"},
		{wedge, "trrrrrr"},
		{sendInfo, "ttttttt"},
		{sendFinal, "trrrrrr"},
		{lift, "nnnnnnn"},
		{step{"Checked", func(a *state.App) error { return a.Checked(epoch) }}, "nnnnnnn"},
		{step{"Postpone", func(a *state.App) error { return a.Postpone(epoch) }}, "ttttttt"},
		{step{"Postpone, as before", func(a *state.App) error { return a.Postpone(time.Time{}) }}, "nnnnnnn"},
		{step{"Delivered, of nothing", func(a *state.App) error { return a.Delivered(99) }}, "nnnnnnn"},
	} {
		for i, s := range states {
			t.Run(tc.name+" while "+s.name, func(t *testing.T) {
				id := t.Name()
				before := prepare(t, d.Journal, id, s.path...)
				written, n := text(t, before), transactions(t, dir)
				err := d.Journal.Do(id, tc.do)
				after := d.Journal.Get(id)
				n = transactions(t, dir) - n
				must(t, after.Sound())
				switch tc.want[i] {
				case taken:
					must(t, err)
					want(t, "transactions", n, 1)
					if after == before || text(t, after) == written {
						t.Error("the record did not change")
					}
				case nothing:
					must(t, err)
					want(t, "transactions", n, 0)
					want(t, "record", text(t, after), written)
				case refused:
					wantErr(t, err, state.ErrTransition)
					want(t, "transactions", n, 0)
					want(t, "record", text(t, after), written)
				}
			})
		}
	}
	sameRecords(t, "after a crash", all(t, crashed(t, dir).Journal), all(t, d.Journal))
}

// A transition must come with the report that tells of it, and speak of the update that is open.
func TestTransitions_wrongArguments(t *testing.T) {
	j := journal(t)
	other := waiting(state.WaitBackoff, "3.0.0", time.Time{})
	for _, tc := range []struct {
		name string
		path []step
		do   func(*state.App) error
	}{
		{"Grant without an identity", nil, func(a *state.App) error {
			u := update("2.0.0")
			u.Identity = ""
			return a.Grant(u)
		}},
		{"Grant with a manifest that cannot be written", nil, func(a *state.App) error {
			u := update("2.0.0")
			u.Manifest = json.RawMessage("{")
			return a.Grant(u)
		}},
		{"Start of another grant", toGranted, func(a *state.App) error { return a.Start(seqOf(a)+1, started) }},
		{"Start with a final report", toGranted, func(a *state.App) error { return a.Start(seqOf(a), complete) }},
		{"Finish of another grant", toFetching, func(a *state.App) error { return a.Finish(seqOf(a)-1, payloads, finished) }},
		{"Finish without payloads", toFetching, func(a *state.App) error { return a.Finish(seqOf(a), nil, finished) }},
		{"Finish with a final report", toFetching, func(a *state.App) error { return a.Finish(seqOf(a), payloads, failure) }},
		{"Offer of another grant", toFetched, func(a *state.App) error { return a.Offer(seqOf(a) + 1) }},
		{"Succeed of another grant", toOffered, func(a *state.App) error { return a.Succeed(seqOf(a)+1, complete) }},
		{"Succeed with a failure", toOffered, func(a *state.App) error { return a.Succeed(seqOf(a), failure) }},
		{"Succeed with progress", toOffered, func(a *state.App) error { return a.Succeed(seqOf(a), finished) }},
		{"Fail of another grant", toOffered, func(a *state.App) error { return a.Fail(seqOf(a)+1, failure, nil) }},
		{"Fail with a success", toOffered, func(a *state.App) error { return a.Fail(seqOf(a), complete, nil) }},
		{"Fail with a wait for another release", toOffered, func(a *state.App) error { return a.Fail(seqOf(a), failure, &other) }},
		{"Defer with a wait for another release", toOffered, func(a *state.App) error { return a.Defer(seqOf(a), failure, other) }},
		{"Install of another grant", toOffered, func(a *state.App) error { return a.Install(seqOf(a)+1, state.Pending{}, ready) }},
		{"Install with a final report", toOffered, func(a *state.App) error { return a.Install(seqOf(a), state.Pending{}, complete) }},
		{"Confirm with a failure", toInstalled, func(a *state.App) error { return a.Confirm(failure) }},
		{"Revert with a success", toInstalled, func(a *state.App) error { return a.Revert(restart, nil) }},
		{"Revert with a wait for another release", toInstalled, func(a *state.App) error { return a.Revert(failure, &other) }},
		{"Refuse with a success", nil, func(a *state.App) error { return a.Refuse(complete, other) }},
		{"Same with a failure", nil, func(a *state.App) error { return a.Same(failure) }},
		{"Wedge with a success", nil, func(a *state.App) error { return a.Wedge(complete, 3) }},
		{"an error of the caller's", nil, func(*state.App) error { return errors.New("no") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := text(t, prepare(t, j, t.Name(), tc.path...))
			wantErr(t, j.Do(t.Name(), tc.do), state.ErrTransition)
			want(t, "record", text(t, j.Get(t.Name())), before)
		})
	}
}

func TestGrant_liftsWhatAnotherReleaseLeft(t *testing.T) {
	j := journal(t)
	w := waiting(state.WaitBackoff, "2.0.0", epoch.Add(time.Hour))
	w.Failures = 2
	backOff := step{"Fail", func(a *state.App) error { return a.Fail(seqOf(a), failure, &w) }}
	a := take(t, j, appA, append(toOffered, backOff, grant("2.0.0"))...)
	want(t, "failures of the same release", a.Wait.Failures, 2)
	want(t, "times handed over", a.Tried.Handed, 1)
	a = take(t, j, appA, fail, grant("2.1.0"))
	want(t, "wait for the release before", a.Wait, nil)
	want(t, "release", *a.Tried, state.Tried{Version: "2.1.0", Identity: identity("2.1.0")})
}

func TestOffer_countsEachHandOver(t *testing.T) {
	j := journal(t)
	take(t, j, appA, append(toOffered, offer, fail, grant("2.0.0"), start, finish)...)
	want(t, "times handed over", take(t, j, appA, offer).Tried.Handed, 3)
}

func TestSucceed_clearsAll(t *testing.T) {
	for _, tc := range []struct {
		name string
		path []step
		last step
		want string // events
	}{
		{"right after the grant", toGranted, succeed, "3/1"},
		{"after the fetch", toFetched, succeed, "13/1 14/1 3/1"},
		{"after the offer", toOffered, succeed, "13/1 14/1 3/1"},
		{"after a restart", toInstalled, confirm, "13/1 14/1 800/1 3/2"},
		{"by the program's word", toRunning, confirm, "13/1 14/1 800/1 3/2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := take(t, journal(t), appA, append(slices.Clip(tc.path), tc.last)...)
			want(t, "version", a.Version, "2.0.0")
			want(t, "events", events(a), tc.want)
			if a.Update != nil || a.Pending != nil || a.Tried != nil || a.Wait != nil || a.Seen != nil {
				t.Errorf("left behind: %s", text(t, a))
			}
			want(t, "verdict", a.Last.Report, a.Outbox[len(a.Outbox)-1])
			want(t, "folders to keep", len(a.Keeps()), 0)
		})
	}
}

func TestInstall_keepsWhatTheRestartNeeds(t *testing.T) {
	a := take(t, journal(t), appA, toInstalled...)
	want(t, "pending", *a.Pending, state.Pending{
		Version: "2.0.0", Previous: "1.0.0", Channel: "stable", Identity: identity("2.0.0"), Session: "s", At: epoch, Boot: "b",
	})
	want(t, "folder to keep", a.Keeps()[0], identity("2.0.0"))
	want(t, "version", a.Version, "")
}

func TestHold_countsFailuresOn(t *testing.T) {
	j := journal(t)
	w := waiting(state.WaitBackoff, "2.0.0", epoch.Add(time.Hour))
	w.Failures = 3
	later := epoch.Add(2 * time.Hour)
	refuse := func(w state.Wait) step {
		return step{"Refuse", func(a *state.App) error { return a.Refuse(at(failure, later), w) }}
	}
	a := take(t, j, appA, refuse(w), refuse(waiting(state.WaitRefused, "2.0.0", time.Time{})))
	want(t, "kind", a.Wait.Kind, state.WaitRefused)
	want(t, "failures", a.Wait.Failures, 3)
	want(t, "last check", a.LastCheck, later)
	a = take(t, j, appA, lift)
	want(t, "held back once lifted", a.Wait.Active(later), false)
	want(t, "failures once lifted", a.Wait.Failures, 3)
	a = take(t, j, appA, refuse(waiting(state.WaitRefused, "2.1.0", time.Time{})))
	want(t, "failures of another release", a.Wait.Failures, 0)
	want(t, "release", a.Tried.Identity, identity("2.1.0"))
}

func TestRefuse_ripensFromTheFirstSighting(t *testing.T) {
	j := journal(t)
	see := func(version string, now time.Time) step {
		return step{"Refuse", func(a *state.App) error {
			return a.Refuse(at(failure, now), waiting(state.WaitAge, version, now.Add(time.Hour)))
		}}
	}
	a := take(t, j, appA, see("2.0.0", epoch), see("2.0.0", epoch.Add(time.Minute)))
	want(t, "first seen", a.Seen.At, epoch)
	a = take(t, j, appA, see("2.1.0", epoch.Add(time.Hour)))
	want(t, "another release first seen", a.Seen.At, epoch.Add(time.Hour))
}

func TestChecked_writesOnlyWhileHeldBack(t *testing.T) {
	j := journal(t)
	w := waiting(state.WaitBackoff, "2.0.0", epoch.Add(time.Hour))
	take(t, j, appA, step{"Refuse", func(a *state.App) error { return a.Refuse(failure, w) }})
	check := func(now time.Time) step {
		return step{"Checked", func(a *state.App) error { return a.Checked(now) }}
	}
	held := take(t, j, appA, check(epoch.Add(time.Minute)))
	want(t, "last check", held.LastCheck, epoch.Add(time.Minute))
	if over := take(t, j, appA, check(epoch.Add(2*time.Hour))); over != held {
		t.Error("written after the backoff was over")
	}
}

func TestWait_active(t *testing.T) {
	for _, tc := range []struct {
		name string
		wait *state.Wait
		want bool
	}{
		{"none", nil, false},
		{"backoff until the next check", &state.Wait{Kind: state.WaitBackoff}, false},
		{"backoff", &state.Wait{Kind: state.WaitBackoff, Until: epoch.Add(1)}, true},
		{"backoff that is over", &state.Wait{Kind: state.WaitBackoff, Until: epoch}, false},
		{"refused for good", &state.Wait{Kind: state.WaitRefused}, true},
		{"deferred", &state.Wait{Kind: state.WaitDefer, Until: epoch.Add(1)}, true},
		{"ripe", &state.Wait{Kind: state.WaitAge, Until: epoch}, false},
	} {
		t.Run(tc.name, func(t *testing.T) { want(t, "active", tc.wait.Active(epoch), tc.want) })
	}
}
