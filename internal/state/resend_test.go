package state_test

import (
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

// wedgeAt is a check that finds the app in progress; the server takes every report at once.
func wedgeAt(t *testing.T, j *state.Journal, now time.Time) (resent int) {
	t.Helper()
	take(t, j, appA, step{"Wedge", func(a *state.App) error { return a.Wedge(at(failure, now), 3) }})
	resent = len(j.Get(appA).Outbox)
	deliverAll(t, j)
	return resent
}

// A verdict that the server loses again and again, without another one in between, is sent again whenever it does.
func TestWedge_nextTimeCountsAnew(t *testing.T) {
	for _, tc := range []struct {
		name string
		path []step
	}{
		{"with a verdict", append(toOffered[:4:4], succeed)},
		{"without one", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir).Journal
			take(t, j, appA, tc.path...)
			deliverAll(t, j)
			now := epoch
			for range 6 {
				resent := 0
				for range 9 {
					now = now.Add(time.Hour)
					resent += wedgeAt(t, j, now)
				}
				want(t, "times sent again", resent, 3)
				now = now.Add(36 * time.Hour)
				take(t, j, appA, checkAt(now))
				n := transactions(t, dir)
				take(t, j, appA, checkAt(now.Add(time.Hour)))
				want(t, "transactions of one more check", transactions(t, dir)-n, 0)
			}
		})
	}
}

// Two machines with one id free each other's updates: that is no loop, though every other check is answered.
func TestWedge_answersInBetweenAreNoLoop(t *testing.T) {
	j := journal(t)
	take(t, j, appA, append(toOffered[:4:4], succeed)...)
	deliverAll(t, j)
	resent := 0
	const days = 10
	for hour := range days * 24 {
		now := epoch.Add(time.Duration(hour) * time.Hour)
		if hour%2 == 0 {
			resent += wedgeAt(t, j, now)
		} else {
			take(t, j, appA, checkAt(now))
		}
	}
	if resent < 3 || resent > 3*days {
		t.Errorf("sent again %d times in %d days", resent, days)
	}
}

// A clock that was put back does not keep the count for as long as it was ahead.
func TestWedge_clockWasPutBack(t *testing.T) {
	j := journal(t)
	take(t, j, appA, append(toOffered[:4:4], succeed)...)
	deliverAll(t, j)
	for range 5 {
		wedgeAt(t, j, epoch)
	}
	back := epoch.Add(-365 * 24 * time.Hour)
	take(t, j, appA, startAt(back), checkAt(back))
	want(t, "times sent again", wedgeAt(t, j, back.Add(time.Hour)), 1)
}
