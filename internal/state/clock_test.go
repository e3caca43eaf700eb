package state_test

import (
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

// clock steps: a start at this time, and a check.
func startAt(now time.Time) step {
	return step{"PutBack", func(a *state.App) error { return a.PutBack(now) }}
}

func checkAt(now time.Time) step {
	return step{"Checked", func(a *state.App) error { return a.Checked(now) }}
}

// heldBack is an app that failed at epoch, and is held back for long.
func heldBack(t *testing.T, kind state.WaitKind, long time.Duration) (*state.Dir, string) {
	t.Helper()
	dir := t.TempDir()
	d := open(t, dir)
	take(t, d.Journal, appA, step{"Refuse", func(a *state.App) error {
		return a.Refuse(failure, waiting(kind, "2.0.0", epoch.Add(long)))
	}})
	return d, dir
}

const long = 16 * 24 * time.Hour

// A machine without a battery for its clock begins each boot in the past. Until the clock is right, and once it is, what
// holds checks back does so.
func TestPutBack_clockWithoutABattery(t *testing.T) {
	for _, kind := range []state.WaitKind{state.WaitBackoff, state.WaitDefer, state.WaitAge} {
		t.Run(string(kind), func(t *testing.T) {
			d, dir := heldBack(t, kind, long)
			boot := time.Unix(5, 0).UTC()
			take(t, d.Journal, appA, startAt(boot))
			n := transactions(t, dir)
			for range 3 {
				a := take(t, d.Journal, appA, startAt(boot.Add(time.Second)))
				want(t, "held back after the boot", a.Wait.Active(boot.Add(time.Minute)), true)
				want(t, "once the clock is right", a.Wait.Active(epoch.Add(time.Minute)), true)
				want(t, "up to its end", a.Wait.Active(epoch.Add(long-time.Second)), true)
				want(t, "after it", a.Wait.Active(epoch.Add(long)), false)
			}
			want(t, "transactions of later boots", transactions(t, dir)-n, 0)
			take(t, d.Journal, appA, checkAt(epoch.Add(long/2)), startAt(boot))
			a := take(t, d.Journal, appA, startAt(epoch.Add(long/2+time.Hour)))
			want(t, "held back after a boot in between", a.Wait.Active(epoch.Add(long/2+time.Hour)), true)
			want(t, "as long as before", a.Wait.Active(epoch.Add(long)), false)
		})
	}
}

// A clock that was ahead, and was put right, holds nothing back for longer; nor once more when it gets that far again.
func TestPutBack_clockIsPutRight(t *testing.T) {
	right := epoch.Add(-365 * 24 * time.Hour)
	for _, tc := range []struct {
		name string
		more []step // once the time is over
	}{
		{"with a check", []step{checkAt(right.Add(long))}},
		{"with a grant", []step{{"Grant", func(a *state.App) error {
			u := update("2.0.0")
			u.At = right.Add(long)
			return a.Grant(u)
		}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, _ := heldBack(t, state.WaitBackoff, long)
			a := take(t, d.Journal, appA, startAt(right))
			want(t, "held back at first", a.Wait.Active(right.Add(long-time.Second)), true)
			want(t, "after as long", a.Wait.Active(right.Add(long)), false)
			a = take(t, d.Journal, appA, tc.more...)
			want(t, "a year later", a.Wait.Active(epoch.Add(time.Hour)), false)
			want(t, "release", a.Wait.Identity, identity("2.0.0"))
		})
	}
}

// What has passed by a clock that was put back counts when it is put back once more.
func TestPutBack_onceMore(t *testing.T) {
	d, _ := heldBack(t, state.WaitBackoff, long)
	first := epoch.Add(-1000 * time.Hour)
	second := first.Add(-1000 * time.Hour)
	a := take(t, d.Journal, appA, startAt(first), checkAt(first.Add(10*time.Hour)), startAt(second))
	want(t, "held back", a.Wait.Active(second.Add(long-11*time.Hour)), true)
	want(t, "as long as was left", a.Wait.Active(second.Add(long-10*time.Hour)), false)
	want(t, "by the clock of before", a.Wait.Active(epoch.Add(long-time.Second)), true)
	a = take(t, d.Journal, appA, lift)
	want(t, "once lifted", a.Wait.Active(second) || a.Wait.Active(epoch), false)
}
