package omahaclient_test

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// What is checked, from outside, against the test server's record and what the children said (each line was out before they
// went on):
//
//   - Verdicts lost: each verdict that returned nil has its event among those that the server has seen, as often as it was given.
//     So has each event that SendEvent took.
//   - Instances wedged: at the end the server has every instance complete, at the release published last, and nothing in progress.
//   - Completed payloads fetched twice: once a fetch has returned to the library (the child's fetcher says so before it returns),
//     the payload host is never again asked for that file. Every release has files of its own, and is never published again.
//   - Versions applied after their success was recorded: no version is handed to the child's deployment after a success of it was
//     acknowledged there, or was seen by the server.
//   - Nor does the server grant a version again once it has seen its success.
//   - Attempt rises with each hand-over of a version, in whatever life.
//   - No success is reported of a version that the child has not begun to apply.
//   - Whatever is handed over is what the server published, byte by byte.
//   - Journal and server agree at the end: every app is idle, with nothing to report, and at the server's version.

// crashEvent is an event that the server has seen.
type crashEvent struct {
	app string
	testserver.Event
	at time.Time
}

func (e crashEvent) success() bool { return e.Type == 3 && e.Result > 0 }

// seen are the events that the server has seen, oldest first.
func (s *story) seen() []crashEvent {
	var list []crashEvent
	for _, r := range s.Requests() {
		for _, a := range r.Apps {
			for _, e := range a.Events {
				if !r.Unseen {
					list = append(list, crashEvent{a.ID, e, r.Time})
				}
			}
		}
	}
	return list
}

// event is what a verdict must have sent.
func (v verdict) event(version string) testserver.Event {
	switch v {
	case ackedError:
		return testserver.Event{Type: 3, ErrorCode: int(applyFailed), NextVersion: version}
	case deferred:
		return testserver.Event{Type: 3, ErrorCode: 36, NextVersion: version}
	case installed:
		return testserver.Event{Type: 800, Result: 1, NextVersion: version}
	case confirmed:
		return testserver.Event{Type: 3, Result: 2, NextVersion: version}
	default:
		return testserver.Event{Type: 3, Result: 1, NextVersion: version}
	}
}

// check looks at the whole story.
func (s *story) check() {
	seen := s.seen()
	s.checkMachine()
	if s.cut {
		return // the server's copy is all that there was at times
	}
	s.checkVerdicts(seen)
	s.checkAttempts()
	s.checkApplied(seen)
	if !s.full {
		s.checkFetches()
	}
}

// said calls fn for each line that begins with one of the words, with what follows it.
func (s *story) said(fn func(l crashLine, words []string), which ...string) {
	for _, l := range s.lines {
		words := strings.Split(l.text, " ")
		for _, w := range which {
			if words[0] == w {
				fn(l, words)
			}
		}
	}
}

func (s *story) app(id string) *crashedApp {
	for _, a := range s.apps {
		if a.ID == id {
			return a
		}
	}
	return nil
}

// checkMachine: the machine's id survives everything, and no child has said anything that it should not.
func (s *story) checkMachine() {
	for _, a := range s.apps {
		if list := s.Instances(a.ID); len(list) != 1 {
			s.errorf("%s: %d instances on the server; the machine's id has not survived", a.ID, len(list))
		}
	}
	s.said(func(l crashLine, words []string) {
		if words[0] != "aside" || !s.cut {
			s.errorf("life %d said: %s", l.life, l.text)
		}
	}, "aside", "corrupt", "panic:", "fatal", "WARNING:")
}

// checkVerdicts: none is lost.
func (s *story) checkVerdicts(seen []crashEvent) {
	type sent struct {
		app string
		testserver.Event
	}
	got, given := map[sent]int{}, map[sent]int{}
	for _, e := range seen {
		e.PreviousVersion = ""
		if e.Type == 3 && e.Result == 2 && s.app(e.app).Kind == selfApp {
			e.Result = 1 // Flatcar's
		}
		if e.Type == 2 {
			e.NextVersion = "" // the program's own, see below
		}
		got[sent{e.app, e.Event}]++
	}
	s.said(func(l crashLine, words []string) {
		e := sent{words[1], verdict(words[3]).event(words[2])}
		if given[e]++; got[e] < given[e] {
			s.errorf("verdict lost: life %d: %s; the server has seen it %d times", l.life, l.text, got[e])
		}
	}, "settled")
	own := map[string]bool{}
	for _, e := range seen {
		own[e.PreviousVersion] = own[e.PreviousVersion] || e.Type == 2
	}
	s.said(func(l crashLine, words []string) {
		if !own[words[2]] {
			s.errorf("event lost: life %d: %s", l.life, l.text)
		}
	}, "sent")
}

// checkAttempts: a version that is handed over again is told so.
func (s *story) checkAttempts() {
	type last struct{ attempt, life int }
	before := map[string]last{}
	s.said(func(l crashLine, words []string) {
		if s.app(words[1]).leaves {
			return // what is no longer configured is forgotten
		}
		release := words[1] + " " + words[2]
		was := before[release]
		if was.life == 0 {
			was.life = 1
		}
		var attempt int
		fmt.Sscan(words[3], &attempt)
		if attempt <= was.attempt || attempt > was.attempt+1+l.life-was.life {
			s.errorf("life %d: %s; attempt %d was in life %d", l.life, l.text, was.attempt, was.life)
		}
		before[release] = last{attempt, l.life}
	}, "offered")
}

// checkApplied: no version is applied after its success is on record, and no success is reported of what was not applied.
func (s *story) checkApplied(seen []crashEvent) {
	succeeded, began := map[string]time.Time{}, map[string]time.Time{}
	s.said(func(l crashLine, words []string) {
		release := words[1] + " " + words[2]
		if _, ok := began[release]; !ok && words[0] == "applying" {
			began[release] = l.at
		}
		if v := verdict(words[len(words)-1]); v == acked || v == confirmed {
			succeeded[release] = l.at
		}
	}, "applying", "settled")
	for _, e := range seen {
		if !e.success() {
			continue
		}
		release := e.app + " " + e.NextVersion
		if at, ok := began[release]; !ok || at.After(e.at) {
			s.errorf("success of %s reported at %v; it was applied at %v", release, e.at, at)
		}
		if at, ok := succeeded[release]; !s.full && (!ok || e.at.Before(at)) {
			succeeded[release] = e.at
		}
	}
	for _, a := range s.apps {
		for _, e := range s.Instances(a.ID)[0].History {
			if at, ok := succeeded[a.ID+" "+e.Version]; ok && e.Status == testserver.Granted && e.Time.After(at) {
				s.errorf("%s %s granted at %v, after its success was recorded at %v", a.ID, e.Version, e.Time, at)
			}
		}
	}
	s.said(func(l crashLine, words []string) {
		if at, ok := succeeded[words[1]+" "+words[2]]; ok && l.at.After(at) {
			s.errorf("applied after its success was recorded at %v: life %d at %v: %s", at, l.life, l.at, l.text)
		}
	}, "applying")
}

// checkFetches: what was fetched is not asked for again.
func (s *story) checkFetches() {
	fetched := map[string]crashLine{}
	s.said(func(l crashLine, words []string) {
		if _, ok := fetched[words[1]]; !ok {
			fetched[words[1]] = l
		}
	}, "fetched")
	for _, r := range s.Payloads.Requests() {
		l, ok := fetched[r.Path]
		id, _, _ := strings.Cut(path.Clean(r.Path), "/")
		if ok && r.Time.After(l.at) && !s.app(id).leaves {
			s.errorf("%s %s (range %q, status %d, %d bytes) at %v, fetched in life %d at %v",
				r.Method, r.Path, r.Range, r.Status, r.Bytes, r.Time, l.life, l.at)
		}
	}
}

// agrees wants the child's own view of the end to be the server's.
func (s *story) agrees(c *crashProcess) {
	var list []omahaclient.AppStatus
	if err := json.Unmarshal([]byte(c.status), &list); err != nil {
		s.fatalf("status %q: %v", c.status, err)
	}
	for i, a := range s.apps {
		if got := list[i]; got.Phase != omahaclient.Idle || got.PendingEvents != 0 || got.Version != a.latest {
			s.errorf("at the end %+v; the server has it at %s", got, a.latest)
		}
	}
}
