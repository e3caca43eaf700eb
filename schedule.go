package omahaclient

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"
)

// Schedule says when to check. Each wait is uniformly random within its range. A zero field means its default;
// any positive value is allowed (demos and tests use milliseconds), Max below Min is not. Each stream starts with First;
// after a success the next check comes after a minute, or after the range's wait where that is shorter (a server with
// required intermediate versions offers them one at a time).
type Schedule struct {
	FirstMin, FirstMax time.Duration // after start; default 5 to 15 min
	Min, Max           time.Duration // after any check, failed attempt or finished update; default 45 to 90 min
}

const (
	afterSuccess = time.Minute
	// longestSilence bounds the wait between pings of an update that is under way: Nebraska drops events that come
	// more than 24 h after the last ping.
	longestSilence = 12 * time.Hour
	// checksSkipped is how many mean waits lie between two checks while a release is held back.
	checksSkipped = 8
)

// complete fills in the defaults and returns what is wrong.
func (s *Schedule) complete() (problems []string) {
	for _, f := range []struct {
		name     string
		min, max *time.Duration
		dmin     time.Duration
		dmax     time.Duration
	}{
		{"First", &s.FirstMin, &s.FirstMax, 5 * time.Minute, 15 * time.Minute},
		{"", &s.Min, &s.Max, 45 * time.Minute, 90 * time.Minute},
	} {
		if *f.min < 0 || *f.max < 0 {
			problems = append(problems, fmt.Sprintf("%sMin %v or %sMax %v is negative", f.name, *f.min, f.name, *f.max))
			continue
		}
		if *f.min == 0 {
			*f.min = f.dmin
		}
		if *f.max == 0 {
			*f.max = f.dmax
		}
		if *f.max < *f.min {
			problems = append(problems, fmt.Sprintf("%sMax %v is below %sMin %v (a field that is zero has its default, so set both)", f.name, *f.max, f.name, *f.min))
		}
	}
	return problems
}

func (s Schedule) first() time.Duration { return between(s.FirstMin, s.FirstMax) }
func (s Schedule) wait() time.Duration  { return between(s.Min, s.Max) }
func (s Schedule) mean() time.Duration  { return s.Min + (s.Max-s.Min)/2 }

// soon is the wait after a success.
func (s Schedule) soon() time.Duration { return min(afterSuccess, s.wait()) }

// between returns a uniformly random duration from lo to hi.
func between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + rand.N(hi-lo+1)
}

// agenda orders the apps by their next contact. It holds no app that is in the middle of one. Client.mu guards it.
type agenda []*app

func (q agenda) Len() int           { return len(q) }
func (q agenda) Less(i, j int) bool { return q[i].next().Before(q[j].next()) }

func (q agenda) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *agenda) Push(x any) {
	a := x.(*app) //nolint:forcetypeassert // heap gives back what add pushed
	a.index = len(*q)
	*q = append(*q, a)
}

// Pop implements heap.Interface.
func (q *agenda) Pop() any {
	old := *q
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	a.index = absent
	return a
}

const absent = -1

// add puts the app in, or moves it to where its times now belong.
func (q *agenda) add(a *app) {
	if a.index == absent {
		heap.Push(q, a)
	} else {
		heap.Fix(q, a.index)
	}
}

func (q *agenda) remove(a *app) {
	if a.index != absent {
		heap.Remove(q, a.index)
	}
}

// head returns when the first contact is due; false if there is none.
func (q agenda) head() (time.Time, bool) {
	if len(q) == 0 {
		return time.Time{}, false
	}
	return q[0].next(), true
}
