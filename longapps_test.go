package omahaclient_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// simLedger is what programs decided: "io.example.App0 2.0.0" and how often with success, how often with a failure.
type simLedger struct {
	mu        sync.Mutex // guards what follows
	random    *rand.Rand
	successes map[string]int
	failures  map[string]int
}

// decide settles an offer one way or another, and writes down what counts.
func (l *simLedger) decide(o omahaclient.UpdateOffer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := o.AppID + " " + o.Version
	switch l.random.IntN(6) {
	case 0, 1:
		l.failures[key]++
		return o.Ack(errSimBroken)
	case 2:
		return o.Defer(time.Duration(l.random.IntN(40)) * time.Hour)
	case 3:
		l.successes[key]++ // by the next start, since the versions are left to the journal
		return o.Installed()
	default:
		l.successes[key]++
		return o.Ack(nil)
	}
}

// simFaults are all that can happen to an exchange.
func simFaults() []testserver.Fault {
	return []testserver.Fault{
		testserver.LostRequest(), testserver.LostAnswer(), testserver.DropEvents(), testserver.DropApps(0), testserver.DropApps(2),
		testserver.StatusFault(503), testserver.StatusFault(404), testserver.HTMLPage(), testserver.EmptyBody(),
		testserver.BareDeclaration(), testserver.Truncated(300),
	}
}

// Six apps in one program for twenty days, with every kind of fault in a third of all exchanges and a kill now and then: in
// the end the server's record holds each verdict, and no success that was none.
func TestLongRun_severalApps(t *testing.T) {
	const apps = 6
	for seed := range uint64(simDeep(2, 40)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			simulate(t, func(t *testing.T, w *simWorld) {
				random := rand.New(rand.NewPCG(seed, 20))
				var groups []*testserver.Group
				var opts []omahaclient.Option
				for i := range apps {
					id := fmt.Sprintf("io.example.App%d", i)
					groups = append(groups, w.AddGroup(id, simTrack, testserver.AnyArch, testserver.Policy{}))
					simPublish(groups[i], "1.0.0")
					opts = append(opts, omahaclient.WithApp(id, "", omahaclient.WithChannel(simTrack)))
				}
				ledger := &simLedger{random: rand.New(rand.NewPCG(seed, 21)), successes: map[string]int{}, failures: map[string]int{}}
				m := w.machine("m")
				m.decides(ledger.decide)
				m.start(opts...)
				m.run()
				for day := range 20 {
					for range 6 {
						for range random.IntN(30) {
							w.Fail(random.IntN(4), testserver.Fault{})
							w.Fail(1, simFaults()[random.IntN(len(simFaults()))])
						}
						simPass(time.Duration(random.IntN(8)) * time.Hour)
						if random.IntN(3) == 0 {
							m.kill()
							simPass(time.Duration(random.IntN(5)) * time.Hour)
							m.start(opts...)
							m.run()
						}
					}
					if day%3 == 2 {
						// Nebraska repeats a grant whose answer was lost with the channel's present package, and records the version
						// that it granted first: let such grants come to an end.
						w.Heal()
						simPass(4 * time.Hour)
						simPublish(groups[random.IntN(apps)], fmt.Sprintf("%d.0.0", day+1))
					}
				}
				w.Heal()
				for _, g := range groups {
					g.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
				}
				simPass(3 * time.Hour)
				m.kill() // what was installed shows at the next start
				m.start(opts...)
				m.run()
				simPass(3 * time.Hour)
				ledger.compare(t, w, m)
			})
		})
	}
}

// compare holds the server's record against what was decided.
func (l *simLedger) compare(t *testing.T, w *simWorld, m *simMachine) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	successes, failures, histories := map[string]int{}, map[string]int{}, map[string]string{}
	for _, status := range m.client.Status() {
		record, _ := w.Instance(status.AppID, m.id)
		histories[status.AppID] = simHistory(record)
		for _, e := range record.History {
			switch key := status.AppID + " " + e.Version; {
			case e.Status == testserver.Complete:
				successes[key]++
			case e.Status == testserver.Error && e.ErrorCode == 1:
				failures[key]++
			}
		}
		if status.PendingEvents > 0 || record.InProgress || record.Version != status.Version {
			t.Errorf("%s: status %+v; record %s at %s: %s", status.AppID, status, record.Status, record.Version, simHistory(record))
		}
	}
	for key := range successes {
		if l.successes[key] == 0 {
			t.Errorf("%s: complete on the server, never said so: %s", key, histories[simAppOf(key)])
		}
	}
	for key, n := range l.successes {
		if successes[key] != n {
			t.Errorf("%s: complete %d times on the server; want %d: %s", key, successes[key], n, histories[simAppOf(key)])
		}
	}
	for key, n := range l.failures {
		if failures[key] < n { // a failure that rode with a check whose answer was lost ends the grant of that check too
			t.Errorf("%s: failed %d times on the server; want %d: %s", key, failures[key], n, histories[simAppOf(key)])
		}
	}
	t.Logf("%d requests, %d releases that succeeded, %d that failed", len(w.Requests()), len(l.successes), len(l.failures))
}

func simAppOf(key string) string {
	id, _, _ := strings.Cut(key, " ")
	return id
}
