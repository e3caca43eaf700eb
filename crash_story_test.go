package omahaclient_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// verdict is what the child says that it has settled.
type verdict string

const (
	acked      verdict = "acked"     // Ack(nil)
	ackedError verdict = "failed"    // Ack(err)
	installed  verdict = "installed" // Installed
	confirmed  verdict = "confirmed" // Confirm
	deferred   verdict = "deferred"  // Defer
)

const applyFailed omaha.ExitCode = 77

// disposition is how the child takes a version; it is the version's last number.
type disposition int

const (
	good      disposition = iota
	failing               // it fails to be applied
	deferring             // it is deferred once
	dead                  // it is installed, and never comes to life
)

func dispositionOf(version string) disposition {
	return disposition(version[len(version)-1] - '0')
}

// crashContent is what a payload holds.
func crashContent(id, version, name string) []byte {
	source := rand.NewChaCha8(sha256.Sum256([]byte(id + " " + version + " " + name)))
	content := make([]byte, 4<<10+source.Uint64()%(40<<10))
	_, _ = source.Read(content) // never fails
	return content
}

// crashedApp is an app as the parent knows it.
type crashedApp struct {
	crashApp
	group  *testserver.Group
	latest string // published last
	minor  int
	staged string // runs from the next start on
	leaves bool   // not configured in every life
}

// story is one server and one state directory, and a child that lives there from kill to kill.
type story struct {
	*testserver.Server
	t      *testing.T
	plan   *crashPlan
	seed   uint64
	rng    *rand.Rand // of the parent's own decisions, in order; never in a callback
	dir    string
	apps   []*crashedApp
	boot   int
	lives  int
	kills  int
	failed bool
	full   bool // the disk is full at times: what Ack returned nil for is kept, what it could not write is not
	cut    bool // the journal is damaged between lives: the server's copy is all that there is

	mu     sync.Mutex // guards what follows
	fate   *rand.Rand // of the faults
	outage int        // requests that still meet a server that is down
	lines  []crashLine
	errs   strings.Builder // what the children logged
}

// crashLine is what a child said.
type crashLine struct {
	life int
	at   time.Time
	text string
}

func newStory(t *testing.T, plan *crashPlan, seed uint64) *story {
	t.Helper()
	s := &story{
		Server: testserver.New(testserver.WithLog(1 << 20)), t: t, plan: plan, seed: seed, dir: t.TempDir(),
		rng: rand.New(rand.NewPCG(seed, 1)), fate: rand.New(rand.NewPCG(seed, 2)),
	}
	if err := s.Start(); err != nil {
		s.fatalf("%v", err)
	}
	for _, a := range []crashApp{
		{"io.example.plain", "", plainApp}, {"io.example.self", "1.0.0", selfApp}, {"io.example.staged", "1.0.0", stagedApp},
		{"io.example.booted", "", bootedApp}, {omaha.FlatcarAppID, "1.0.0", selfApp}, {"io.example.leaving", "1.0.0", selfApp},
	} {
		app := &crashedApp{crashApp: a, leaves: strings.HasSuffix(a.ID, "leaving")}
		app.group = s.AddGroup(a.ID, track, testserver.AnyArch, testserver.Policy{})
		s.apps = append(s.apps, app)
	}
	return s
}

// storyOver is what a story panics with that cannot go on.
type storyOver struct{}

func (s *story) errorf(format string, args ...any) {
	s.failed = true
	s.t.Errorf("seed %d: "+format, append([]any{s.seed}, args...)...)
}

func (s *story) fatalf(format string, args ...any) {
	s.errorf(format, args...)
	panic(storyOver{})
}

// publish gives an app its next release.
func (s *story) publish(a *crashedApp, how disposition) {
	s.mu.Lock()
	a.minor++
	version := fmt.Sprintf("1.%d.%d", a.minor, how)
	a.latest = version
	s.mu.Unlock()
	files := []testserver.File{{Name: "app.bin", Content: crashContent(a.ID, version, "app.bin")}}
	if a.minor%3 == 0 {
		files = append(files, testserver.File{Name: "extra.bin", Content: crashContent(a.ID, version, "extra.bin")})
	}
	a.group.Publish(testserver.Release{Version: version, Files: files})
}

// publishSome gives some apps new releases, good ones and others.
func (s *story) publishSome() {
	for _, a := range s.apps {
		if s.rng.IntN(3) > 0 {
			continue
		}
		how := good
		if s.rng.IntN(2) == 0 {
			how = disposition(1 + s.rng.IntN(3))
		}
		if how == dead && a.Kind != stagedApp {
			how = failing
		}
		s.publish(a, how)
	}
}

// spec is what the next life begins with. A start brings to life what was staged; so does a boot.
func (s *story) spec() crashLife {
	life := crashLife{URL: s.URL(), Dir: s.dir, Boot: fmt.Sprint("boot ", s.boot)}
	for _, a := range s.apps {
		if a.staged != "" && dispositionOf(a.staged) != dead && a.Kind == stagedApp {
			a.Version = a.staged
		}
		a.staged = ""
		life.Apps = append(life.Apps, a.crashApp)
	}
	return life
}

// untilKilled is one life with faults, and, if all goes well, a violent death. change may make it another life than others.
func (s *story) untilKilled(change func(*crashLife)) {
	life := s.spec()
	life.Once = s.rng.IntN(4) == 0
	life.Deploy = time.Duration(s.rng.IntN(2)) * 30 * time.Millisecond
	life.CheckNow = s.rng.IntN(4) == 0
	if s.rng.IntN(3) == 0 {
		life.Event, life.Waits = fmt.Sprintf("0.0.%d", s.lives+1), s.rng.IntN(2) == 0
	}
	if s.rng.IntN(4) == 0 { // one app is not configured now
		life.Apps = life.Apps[:len(life.Apps)-1]
	}
	life.Point, life.Nth = s.plan.next(s.rng)
	patience := s.plan.patience
	if life.Nth == 0 {
		patience = time.Duration(s.rng.Int64N(int64(patience)))
	}
	if change != nil {
		change(&life)
	}
	s.spoil()
	s.publishSome()
	s.live(life, patience)
}

// settle heals everything, publishes good releases, and wants the child to get there: with every app at its release, nothing left
// to report, and a server that agrees.
func (s *story) settle() {
	s.heal()
	for _, a := range s.apps {
		s.publish(a, good)
	}
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), time.Minute, errors.New("nothing happens any more"))
	defer cancel()
	for {
		c, err := s.begin(s.spec(), "")
		if err != nil {
			s.fatalf("%v", err)
		}
		err = s.waitFor(ctx, c, s.allComplete)
		c.hangUp()
		if err != nil {
			c.kill()
		}
		<-c.done
		switch {
		case err != nil:
			s.fatalf("wedged: %v\n%s", err, s.instances())
		case c.code == exitRestart:
			s.boot++
		case c.code != exitDone:
			s.fatalf("exit code %d\n%s", c.code, s.instances())
		default:
			s.agrees(c)
			return
		}
	}
}

// allComplete reports whether the server has every app at its latest release, and heard from the app that it runs.
func (s *story) allComplete() bool {
	for _, a := range s.apps {
		list := s.Instances(a.ID)
		if len(list) == 0 || list[0].InProgress || list[0].Version != a.latest {
			return false
		}
	}
	reported := map[string]testserver.AppRequest{}
	for _, r := range s.Requests() {
		for _, app := range r.Apps {
			if !r.Unseen && app.Check {
				reported[app.ID] = app
			}
		}
	}
	for _, a := range s.apps {
		if reported[a.ID].Version != a.latest {
			return false
		}
	}
	return true
}

// instances describes the server's record.
func (s *story) instances() string {
	var b strings.Builder
	for _, a := range s.apps {
		for _, i := range s.Instances(a.ID) {
			fmt.Fprintf(&b, "%s of %s: %s, version %s, granted %s, published %s; last of %d changes: %+v\n",
				a.ID, i.MachineID, i.Status, i.Version, i.GrantedVersion, a.latest, len(i.History), i.History[max(0, len(i.History)-4):])
		}
	}
	return b.String()
}

// tail is the end of what the children said and logged.
func (s *story) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, l := range s.lines[max(0, len(s.lines)-150):] {
		fmt.Fprintf(&b, "%d %s %s\n", l.life, l.at.Format("05.000000"), l.text)
	}
	log := s.errs.String()
	return b.String() + "\n" + log[max(0, len(log)-12_000):]
}
