package apply_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/nebraska/omahaclient/apply"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	must(t, err)
	return z
}

// openTimes lists when a gate opens and closes between two moments, by the minute, in UTC.
func openTimes(t testing.TB, gate func(string, time.Time) (bool, time.Time), from, to time.Time) (list []string) {
	t.Helper()
	was := false
	var told time.Time // when the gate said that it would open
	for now := from; now.Before(to); now = now.Add(time.Minute) {
		open, next := gate(appA, now)
		if open != was {
			list = append(list, now.UTC().Format("01-02 15:04"))
			if open && !told.IsZero() && !told.Equal(now) {
				t.Errorf("opened at %v; said %v", now, told)
			}
		}
		if !open && !next.After(now) {
			t.Fatalf("at %v: closed until %v", now, next)
		}
		was, told = open, next
	}
	return list
}

func TestDuring(t *testing.T) {
	berlin, lordHowe := zone(t, "Europe/Berlin"), zone(t, "Australia/Lord_Howe")
	at := func(from, to time.Duration, z *time.Location, days ...time.Weekday) apply.Window {
		return apply.Window{From: from, To: to, Zone: z, Days: days}
	}
	const h, m = time.Hour, time.Minute
	for _, tc := range []struct {
		name     string
		windows  []apply.Window
		from, to string
		want     []string
	}{
		{"every night", []apply.Window{at(2*h, 4*h, time.UTC)}, "2026-01-01", "2026-01-03", []string{"01-01 02:00", "01-01 04:00", "01-02 02:00", "01-02 04:00"}},
		{"over midnight", []apply.Window{at(22*h, 90*m, time.UTC)}, "2026-01-01", "2026-01-02", []string{"01-01 00:00", "01-01 01:30", "01-01 22:00"}},
		{"the whole day", []apply.Window{at(0, 0, time.UTC)}, "2026-01-01", "2026-01-09", []string{"01-01 00:00"}},
		{"on Sundays", []apply.Window{at(23*h, 1*h, time.UTC, time.Sunday)}, "2026-01-01", "2026-01-12", []string{"01-04 23:00", "01-05 01:00", "01-11 23:00"}},
		{"two, which overlap", []apply.Window{at(2*h, 4*h, time.UTC), at(3*h, 5*h, time.UTC)}, "2026-01-01", "2026-01-02", []string{"01-01 02:00", "01-01 05:00"}},
		{"none", nil, "2026-01-01", "2026-01-02", nil},
		{"in Berlin, winter", []apply.Window{at(2*h, 4*h, berlin)}, "2026-01-01", "2026-01-02", []string{"01-01 01:00", "01-01 03:00"}},
		{"in Berlin, summer", []apply.Window{at(2*h, 4*h, berlin)}, "2026-07-01", "2026-07-02", []string{"07-01 00:00", "07-01 02:00"}},
		// 2026-03-29: 02:00 CET becomes 03:00 CEST, which is 01:00 UTC.
		{"forward, around it", []apply.Window{at(1*h, 4*h, berlin)}, "2026-03-29", "2026-03-30", []string{"03-29 00:00", "03-29 02:00", "03-29 23:00"}},
		{"forward, begins in it", []apply.Window{at(2*h+30*m, 4*h, berlin)}, "2026-03-29", "2026-03-30", []string{"03-29 01:00", "03-29 02:00"}},
		{"forward, within it", []apply.Window{at(2*h+10*m, 2*h+40*m, berlin)}, "2026-03-29", "2026-03-30", []string{"03-29 01:00", "03-29 01:30"}},
		{"forward, weekly", []apply.Window{at(2*h, 3*h, berlin, time.Sunday)}, "2026-03-28", "2026-04-04", []string{"03-29 01:00", "03-29 02:00"}},
		// 2026-10-25: 03:00 CEST becomes 02:00 CET, which is 01:00 UTC.
		{"back, around it", []apply.Window{at(1*h, 4*h, berlin)}, "2026-10-25", "2026-10-26", []string{"10-25 00:00", "10-25 03:00"}},
		{"back, within it", []apply.Window{at(2*h+10*m, 2*h+40*m, berlin)}, "2026-10-25", "2026-10-26", []string{"10-25 00:10", "10-25 01:40"}},
		{"half an hour back", []apply.Window{at(1*h+30*m, 2*h, lordHowe)}, "2026-04-04", "2026-04-05", []string{"04-04 14:30", "04-04 15:30"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			from, err := time.Parse(time.DateOnly, tc.from)
			must(t, err)
			to, err := time.Parse(time.DateOnly, tc.to)
			must(t, err)
			gate := apply.During(tc.windows...)
			if tc.windows == nil {
				open, next := gate(appA, from)
				want(t, "open", open, false)
				want(t, "next", next, time.Time{})
				return
			}
			got := openTimes(t, gate, from, to)
			for i := range max(len(got), len(tc.want)) {
				if i >= len(got) || i >= len(tc.want) || got[i] != tc.want[i] {
					t.Fatalf("opens and closes at %v; want %v", got, tc.want)
				}
			}
		})
	}
}
