package apply

import (
	"slices"
	"time"
)

// Window is a time of day in which updates may be taken.
type Window struct {
	From, To time.Duration  // since midnight by the wall clock, such as 2*time.Hour, in whole seconds; To at or before From is on the next day
	Days     []time.Weekday // on which it begins; none: every day
	Zone     *time.Location // nil: time.Local
}

// During makes a function for omahaclient.WithGate that is open in the windows and closed outside of them, so that nothing
// is granted there (a grant that waits costs the whole group). What was granted within a window is applied, even if that
// ends after it.
//
//	omahaclient.WithGate(apply.During(apply.Window{From: 2 * time.Hour, To: 4 * time.Hour, Zone: berlin}))
//
// Windows go by the wall clock. When clocks are put back, one that begins or ends in the hour that comes twice has all of
// it. When they are put forward, one that begins in the hour that is left out begins with the change; one that is left out
// altogether still is open then, for its usual time. Without windows the gate is always closed.
func During(windows ...Window) func(appID string, now time.Time) (open bool, next time.Time) {
	windows = slices.Clone(windows)
	return func(_ string, now time.Time) (bool, time.Time) {
		var next time.Time
		for _, w := range windows {
			for begin, end := range w.around(now) {
				if !now.Before(begin) && now.Before(end) {
					return true, time.Time{}
				}
				if begin.After(now) && (next.IsZero() || begin.Before(next)) {
					next = begin
				}
			}
		}
		return false, next
	}
}

// around yields the window's times from yesterday's to the next one after now.
func (w Window) around(now time.Time) func(yield func(begin, end time.Time) bool) {
	zone := w.Zone
	if zone == nil {
		zone = time.Local //nolint:gosmopolitan // the machine's own is what its owner means
	}
	const week = 8 // days: up to the same day of the next week
	return func(yield func(begin, end time.Time) bool) {
		year, month, day := now.In(zone).Date()
		for d := -1; d <= week; d++ {
			date := time.Date(year, month, day+d, 12, 0, 0, 0, zone)
			if len(w.Days) > 0 && !slices.Contains(w.Days, date.Weekday()) {
				continue
			}
			begin, end := w.on(date)
			if !yield(begin, end) {
				return
			}
		}
	}
}

// on returns the window that begins on a date.
func (w Window) on(date time.Time) (begin, end time.Time) {
	length := w.To - w.From
	if length <= 0 {
		length += 24 * time.Hour
	}
	begin, _ = wallClock(date, w.From)
	_, end = wallClock(date, w.From+length)
	if !end.After(begin) { // it is in the hour that is left out
		end = begin.Add(length)
	}
	return begin, end
}

// wallClock returns the first and the last moment at which clocks show a time of day on a date, which may be twice; where
// they never do, the moment at which they leave it out.
func wallClock(date time.Time, sinceMidnight time.Duration) (first, last time.Time) {
	y, m, d := date.Date()
	shows := func(zone *time.Location) time.Time {
		return time.Date(y, m, d, 0, 0, int(sinceMidnight/time.Second), 0, zone)
	}
	want := shows(time.UTC) // what clocks shall show
	t := shows(date.Location())
	if got := shown(t); !got.Equal(want) {
		begin, end := t.ZoneBounds()
		if got.After(want) {
			return begin, begin
		}
		return end, end
	}
	first, last = t, t
	for shift := 15 * time.Minute; shift <= 3*time.Hour; shift += 15 * time.Minute { // more than any zone ever put clocks back
		if earlier := t.Add(-shift); shown(earlier).Equal(want) {
			first = earlier
		}
		if later := t.Add(shift); shown(later).Equal(want) {
			last = later
		}
	}
	return first, last
}

// shown is what clocks show at t, as if that were UTC.
func shown(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}
