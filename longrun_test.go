package omahaclient_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// simLife is a machine's life of some months: releases come, every other one fails; server and payload host break down;
// the program is stopped, killed, and takes its time with some offers.
type simLife struct {
	t *testing.T
	w *simWorld
	m *simMachine

	starts   []time.Time
	away     [][2]time.Time // when the program did not run, or the server could not be reached
	releases int

	mu       sync.Mutex // guards what follows
	random   *rand.Rand
	verdicts map[string]int // "2.0.0 1" for a success of 2.0.0, "3.0.0 0" for a failure
	held     *omahaclient.UpdateOffer
}

// die is a random number below n.
func (l *simLife) die(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.random.IntN(n)
}

// upTo is a random duration.
func (l *simLife) upTo(d time.Duration) time.Duration { return time.Duration(l.die(int(d))) }

func (l *simLife) start() {
	l.m.start()
	l.starts = append(l.starts, time.Now())
	l.m.run()
}

// decide gives the verdict at once, or leaves it for later.
func (l *simLife) decide(o omahaclient.UpdateOffer) error {
	if l.die(3) == 0 {
		l.hold(&o)
		return nil
	}
	return l.settle(o)
}

func (l *simLife) settle(o omahaclient.UpdateOffer) error {
	success := strings.HasSuffix(o.Version, ".0") // of the versions 1.0.0, 1.1.1, 2.0.0, 2.1.1 …
	var failure error
	result := 1
	if !success {
		failure, result = errSimBroken, 0
	}
	err := o.Ack(failure)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.verdicts[fmt.Sprint(o.Version, " ", result)]++
	}
	return err
}

// hold keeps an offer for later, and returns the one that was kept.
func (l *simLife) hold(o *omahaclient.UpdateOffer) *omahaclient.UpdateOffer {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.held
	l.held = o
	return held
}

// step is a part of a life.
func (l *simLife) step() {
	switch l.die(10) {
	case 0: // a new release
		l.releases++
		version := fmt.Sprintf("%d.0.0", l.releases/2+1)
		if l.releases%2 == 1 {
			version = fmt.Sprintf("%d.1.1", l.releases/2+1)
		}
		simPublish(l.w.group, version)
	case 1, 2: // the server is down for up to 30 hours
		l.absent(func() {
			l.w.Fail(-1, testserver.StatusFault(404)) // not worth another attempt within the call, so that the log shows each try
			simPass(l.upTo(30 * time.Hour))
			l.w.Heal()
		})
	case 3: // its answers get lost for a while
		l.absent(func() {
			l.w.Fail(1+l.die(4), testserver.LostAnswer())
			simPass(3 * time.Hour)
			l.w.Heal()
		})
	case 4: // downloads fail for a while
		l.absent(func() {
			l.w.Payloads.Fail("", -1, testserver.FileFault{Status: 404})
			simPass(l.upTo(10 * time.Hour))
			l.w.Payloads.Heal()
		})
	case 5: // stopped
		l.absent(func() {
			l.m.stop()
			simPass(l.upTo(5 * time.Hour))
			l.start()
		})
	case 6: // killed
		l.absent(func() {
			l.m.kill()
			simPass(l.upTo(30 * time.Hour))
			l.start()
		})
	default:
		simPass(l.upTo(2 * simDay))
	}
	l.late()
}

// late gives a verdict that was left for later, if its process still lives.
func (l *simLife) late() {
	synctest.Wait()
	o := l.hold(nil)
	if o == nil {
		return
	}
	if err := l.settle(*o); err != nil && !errors.Is(err, omahaclient.ErrClosed) {
		l.t.Errorf("late verdict on %s: %v", o.Version, err)
	}
	synctest.Wait()
}

func (l *simLife) absent(during func()) {
	from := time.Now()
	during()
	l.away = append(l.away, [2]time.Time{from, time.Now()})
}

// awayBetween is for how long nothing could be done, and how often.
func (l *simLife) awayBetween(from, to time.Time) (total time.Duration) {
	for _, a := range l.away {
		start, end := a[0], a[1].Add(2*time.Hour) // and until the next contact
		if start.Before(from) {
			start = from
		}
		if end.After(to) {
			end = to
		}
		total += max(end.Sub(start), 0)
	}
	return total
}

// Sixty days: not one wait outside of its range, not one verdict lost, the server's record agrees with ours.
func TestLongRun_sixtyDays(t *testing.T) {
	for seed := range uint64(simDeep(1, 20)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				w.channel(testserver.Policy{})
				simPublish(w.group, "1.0.0")
				l := &simLife{t: t, w: w, m: w.machine("m"), random: rand.New(rand.NewPCG(seed, 60)), verdicts: map[string]int{}}
				l.m.decides(l.decide)
				l.start()
				for end := time.Now().Add(60 * simDay); time.Now().Before(end); {
					l.step()
				}
				w.groupOff()
				simPass(3 * time.Hour)
				l.late()
				simPass(3 * time.Hour)
				l.checkRecord()
				l.checkWaits()
				l.checkBackoffs()
			})
		})
	}
}

// checkRecord compares what the program decided with what the server has.
func (l *simLife) checkRecord() {
	t, record := l.t, l.m.record()
	simWant(t, "pending events", l.m.status().PendingEvents, 0)
	simWant(t, "left in progress", record.InProgress, false)
	recorded := map[string]int{}
	for _, e := range record.History {
		switch {
		case e.Status == testserver.Complete:
			recorded[e.Version+" 1"]++
		case e.Status == testserver.Error && e.ErrorCode == 1:
			recorded[e.Version+" 0"]++
		}
	}
	for verdict, n := range l.verdicts {
		if recorded[verdict] != n {
			t.Errorf("verdict %q: %d times on the server; want %d", verdict, recorded[verdict], n)
		}
	}
	for verdict, n := range recorded {
		if l.verdicts[verdict] == 0 {
			t.Errorf("verdict %q: %d times on the server, never given", verdict, n)
		}
	}
	simWant(t, "version on the server", record.Version, l.m.status().Version)
	t.Logf("%d requests, %d starts, %d releases, verdicts %v, away %d times", len(l.w.Requests()), len(l.starts), l.releases, l.verdicts, len(l.away))
}

// checkWaits holds every scheduled contact in the server's log against its promise: 5 to 15 minutes after a start, 45 to 90
// after the contact, or the end of the attempt, before it, and a minute after a success.
func (l *simLife) checkWaits() {
	var (
		anchor    time.Time // what the next scheduled contact is planned from
		first     = true    // of its process
		soon      bool      // after a success
		uncertain bool      // whether the anchor is right
		starts    = l.starts
		checked   = 0
		told      = map[string]bool{} // final events that were seen before
	)
	contacts := l.m.contacts(time.Time{})
	for i, c := range contacts {
		for len(starts) > 0 && !starts[0].After(c.at) {
			anchor, first, soon, uncertain, starts = starts[0], true, false, false, starts[1:]
		}
		least, most := 45*time.Minute, 90*time.Minute
		switch wait := c.at.Sub(anchor); {
		case first && strings.Contains(c.String(), "3/0:36"):
			least, most = 0, 15*time.Minute // at once, for an offer that was too old
		case first:
			least, most = 5*time.Minute, 15*time.Minute
		case soon:
			least, most = time.Minute, time.Minute
		case i > 0 && contacts[i-1].answer == "" && contacts[i-1].seen && c.at.Sub(contacts[i-1].at) < 30*time.Second:
			anchor = c.at // its answer was lost: the same contact once more
			continue
		case c.String() == "ping" && !c.seen && (wait < least || uncertain):
			uncertain = true // it may have been the ping before events that were long in coming
			continue
		}
		if (c.Ping || c.Check) && !simSilent(contacts[i:]) {
			if wait := c.at.Sub(anchor); !uncertain && (wait < least || wait > most) {
				l.t.Errorf("contact %q at %v: %v after %v; want %v to %v", c, c.at, wait, anchor, least, most)
			}
			anchor, first, soon, uncertain = c.at, false, false, false
			checked++
		}
		for _, e := range c.Events { // the end of an attempt plans anew
			if key := fmt.Sprint(e); e.Type == 3 && e.ErrorCode != 40 && !told[key] {
				told[key] = true
				anchor, first, soon = c.at, false, e.Result == 1
			}
		}
		if len(c.Events) == 0 {
			clear(told) // all were delivered
		}
	}
	l.t.Logf("%d waits between contacts", checked)
	if checked < 500 {
		l.t.Errorf("%d waits in 60 days; want more", checked)
	}
}

// simSilent reports whether the first contact is the ping before events that were long in coming.
func simSilent(contacts []simContact) bool {
	return len(contacts) > 1 && contacts[0].String() == "ping" && len(contacts[1].Events) > 0 && contacts[1].at.Sub(contacts[0].at) < time.Second
}

// checkBackoffs holds what was granted anew after a failure, and kept, against the promised waits.
func (l *simLife) checkBackoffs() {
	waits, early := 0, 0
	failed := map[string]int{}        // by version
	granted := map[string]time.Time{} // by version
	var last testserver.Entry         // the failure that the next attempt at its version follows
	history := l.m.record().History
	for i, e := range history {
		if e.Status == testserver.Granted {
			if i+1 < len(history) && history[i+1].ErrorCode == 40 {
				early++
				if wait := e.Time.Sub(granted[e.Version]); wait < 9*time.Hour {
					l.t.Errorf("%s: granted while it backs off, %v after the last grant; want 9 hours at least", e.Version, wait)
				}
			}
			granted[e.Version] = e.Time
		}
		switch {
		case e.Status == testserver.Error && e.ErrorCode == 1:
			failed[e.Version]++
			last = e
		case e.Status == testserver.Granted && e.Version == last.Version && i+1 < len(history) && history[i+1].ErrorCode != 40:
			l.checkBackoff(failed[e.Version], last.Time, e.Time, e.Version)
			last = testserver.Entry{}
			waits++
		}
	}
	l.t.Logf("%d waits of backoffs, %d early grants given back", waits, early)
}

func (l *simLife) checkBackoff(failures int, from, to time.Time, version string) {
	least, most := 45*time.Minute, 90*time.Minute
	if failures > 1 {
		least = min(simDay<<(failures-2), 16*simDay) - 6*time.Hour
		most = least + 12*time.Hour + 90*time.Minute
	}
	least -= l.awayBetween(from.Add(-40*time.Hour), from) // the server learned of the failure so much later
	most += l.awayBetween(from, to)
	if wait := to.Sub(from); wait < least || wait > most {
		l.t.Errorf("%s, after failure %d: granted again after %v; want %v to %v", version, failures, wait, least, most)
	}
}
