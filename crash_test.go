package omahaclient_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"
)

// The crash tests. A child process, this test binary again, runs the real library against a test server in this process, over
// sockets; it is killed (SIGKILL), started again until it settles, and then crash_check_test.go says what must hold.
//
// TestCrash_everyTransition kills it before and after every transaction of its journal, in everything that an update goes through.
// TestCrash_killedAnywhere kills it there as well as around all that shows outside (requests, answers, fetches, hand-overs,
// verdicts), and at random moments, while server and payload host fail in every way that they can and new releases come out, good
// ones and others. In crash_disk_test.go its disk is full, or damages the journal. Before a child dies without a transaction, the
// disk is slow with it: whatever shows too early has time to show.
//
// A SIGKILL leaves what was written to the kernel: that the journal syncs its file is not tested here.
//
// OMAHACLIENT_CRASH_KILLS is how many kills TestCrash_killedAnywhere has (200); the others follow from it or need what they need.
// OMAHACLIENT_CRASH_SEED says which stories are told: the first story's seed; the others count on from there. A failure names its
// story's seed: with that, and 20 kills, it is told alone. The parent's decisions are the same then, the child's timing is not.

const (
	defaultKills  = 200
	killsPerStory = 20
)

// number is what an environment variable says, or else def.
func number(t *testing.T, name string, def uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// atOnce is how many stories are told at the same time: most of the time they wait.
const atOnce = 6

// stories tells stories until there were enough kills.
func stories(t *testing.T, plan *crashPlan, kills int, tell func(s *story, kills int)) {
	t.Helper()
	seed := number(t, "OMAHACLIENT_CRASH_SEED", rand.Uint64N(1e9))
	t.Logf("OMAHACLIENT_CRASH_SEED=%d OMAHACLIENT_CRASH_KILLS=%d", seed, kills)
	var all errgroup.Group
	all.SetLimit(atOnce)
	for told := 0; told < kills; told += killsPerStory {
		all.Go(func() error {
			tellOne(t, plan, seed+uint64(told/killsPerStory), func(s *story) { tell(s, min(kills-told, killsPerStory)) })
			return nil
		})
	}
	_ = all.Wait()
	t.Logf("kills by point:\n%s", plan)
}

// tellOne tells one story to its end, or until it fails.
func tellOne(t *testing.T, plan *crashPlan, seed uint64, tell func(s *story)) {
	t.Helper()
	s := newStory(t, plan, seed)
	defer func() {
		if p := recover(); p != nil && p != any(storyOver{}) {
			panic(p)
		}
		s.Close()
		if s.failed {
			t.Logf("seed %d, %d lives, %d kills\n%s", s.seed, s.lives, s.kills, s.tail())
		}
	}()
	tell(s)
}

func TestCrash_killedAnywhere(t *testing.T) {
	plan := newCrashPlan(crashPatience)
	kills := int(number(t, "OMAHACLIENT_CRASH_KILLS", defaultKills))
	stories(t, plan, kills, func(s *story, kills int) {
		for s.kills < kills {
			s.untilKilled(nil)
			if s.rng.IntN(8) == 0 {
				s.wedge(s.apps[s.rng.IntN(len(s.apps))])
			}
		}
		s.settle()
		s.check()
	})
}
