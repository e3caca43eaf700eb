package omahaclient_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

const (
	indexPath = "index.json"
	day       = 24 * time.Hour
)

// announces puts a signed index on the payload host: version is the newest release of appA.
func (p *publisher) announces(w *world, version string, sequence uint64, edit ...func(*trust.Index)) {
	p.t.Helper()
	x := trust.Index{
		Sequence: sequence, Issued: time.Now(), Expires: time.Now().Add(2 * day),
		Heads: []trust.Head{{App: appA, Channel: track, Arch: trust.AnyArch, Version: version, Sequence: sequence}},
	}
	for _, e := range edit {
		e(&x)
	}
	s := p.sign(x)
	w.Payloads.Put(indexPath, s.Document)
	w.Payloads.Put(indexPath+trust.IndexSignatureSuffix, s.Signatures)
}

// alarms are the alarms that a client raised.
type alarms struct {
	mu   sync.Mutex // guards list
	list []omahaclient.Staleness
}

func (a *alarms) after(d time.Duration) omahaclient.Option {
	return omahaclient.WithMaxStaleness(d, func(s omahaclient.Staleness) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.list = append(a.list, s)
	})
}

func (a *alarms) raised() []omahaclient.Staleness {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list)
}

func (a *alarms) wantLast(t *testing.T, count int, reason string) {
	t.Helper()
	raised := a.raised()
	if len(raised) != count {
		t.Fatalf("%d alarms: %+v; want %d", len(raised), raised, count)
	}
	if count > 0 && !strings.Contains(raised[count-1].Reason, reason) {
		t.Errorf("reason %q; want %q", raised[count-1].Reason, reason)
	}
}

func TestMaxStaleness_releaseKeptBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		g := w.offering(appA, "1.0.0")
		index := omahaclient.WithReleaseIndex(w.Payloads.URL() + indexPath)
		var a alarms
		p.announces(w, "1.0.0", 1, func(x *trust.Index) { x.Expires = x.Issued.Add(365 * day) })
		c := w.client(p.trusted(appA, index), a.after(3*day))
		s := w.updates(c)
		s.silent(10 * day)
		a.wantLast(t, 0, "")
		want(t, "stale", status(t, c, appA).Stale, "")

		p.announces(w, "2.0.0", 2, func(x *trust.Index) { x.Expires = x.Issued.Add(365 * day) })
		released := time.Now()
		s.silent(2 * day)
		a.wantLast(t, 0, "")
		s.silent(2 * day)
		a.wantLast(t, 1, "version 2.0.0 is released, and the update server does not offer it")
		if since := a.raised()[0].Since.Sub(released); since < 0 || since > 2*time.Hour {
			t.Errorf("since %v after the release", since)
		}
		if st := status(t, c, appA); !strings.Contains(st.Stale, "2.0.0") {
			t.Errorf("status %+v", st)
		}
		if n := len(w.log.lines("may be kept from updates")); n != 1 {
			t.Errorf("%d lines in the log", n)
		}
		s.silent(3 * day) // it goes on
		a.wantLast(t, 2, "2.0.0")

		p.releases(w, g, appA, "2.0.0", 2)
		must(t, s.next().Ack(nil))
		s.silent(10 * day)
		a.wantLast(t, 2, "2.0.0")
		want(t, "stale", status(t, c, appA).Stale, "")
	})
}

// What this machine does itself with a release is no fault of the server's.
func TestMaxStaleness_ownBackoffIsNoAlarm(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		g := w.offering(appA, "1.0.0")
		p.releases(w, g, appA, "2.0.0", 2)
		p.announces(w, "2.0.0", 2, func(x *trust.Index) { x.Expires = x.Issued.Add(365 * day) })
		var a alarms
		c := w.client(p.trusted(appA, omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath)), a.after(day))
		s := w.updates(c)
		must(t, s.next().Defer(5*day))
		s.silent(4 * day)
		a.wantLast(t, 0, "")
	})
}

// Nor is a closed gate; what the server does with the first check after it, is.
func TestMaxStaleness_closedGateIsNoAlarm(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		w.offering(appA, "1.0.0")
		p.announces(w, "2.0.0", 2, func(x *trust.Index) { x.Expires = x.Issued.Add(365 * day) })
		opens := time.Now().Add(10 * day)
		gate := omahaclient.WithGate(func(_ string, now time.Time) (bool, time.Time) { return !now.Before(opens), opens })
		var a alarms
		c := w.client(p.trusted(appA, omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath)), a.after(day), gate)
		s := w.updates(c)
		s.silent(9 * day)
		a.wantLast(t, 0, "")
		s.silent(day + 3*time.Hour)
		a.wantLast(t, 1, "version 2.0.0 is released")
	})
}

// No fresh index, whatever the reason: silence, replay, expiry, another's signature.
func TestMaxStaleness_noFreshIndex(t *testing.T) {
	for _, tt := range []struct {
		name   string
		attack func(w *world, p *publisher)
	}{
		{"host down", func(w *world, _ *publisher) { w.Payloads.Offline(true) }},
		{"gone", func(w *world, _ *publisher) { w.Payloads.Remove(indexPath) }},
		{"replayed until it expires", func(*world, *publisher) {}},
		{"older one", func(w *world, p *publisher) { p.announces(w, "1.0.0", 1) }},
		{"signed by another", func(w *world, _ *publisher) { newPublisher(w.t).announces(w, "1.0.0", 9) }},
		{"unsigned", func(w *world, _ *publisher) { w.Payloads.Remove(indexPath + trust.IndexSignatureSuffix) }},
		{"of another app", func(w *world, p *publisher) {
			p.announces(w, "1.0.0", 9, func(x *trust.Index) { x.Heads[0].App = appB })
		}},
		{"endless", func(w *world, _ *publisher) { w.Payloads.Put(indexPath, make([]byte, 100<<10)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				p := newPublisher(t)
				w.offering(appA, "1.0.0")
				p.announces(w, "1.0.0", 5)
				var a alarms
				c := w.client(p.trusted(appA, omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath)), a.after(3*day))
				s := w.updates(c)
				s.silent(day / 2)
				tt.attack(w, p)
				s.silent(2 * day)
				a.wantLast(t, 0, "")
				s.silent(4 * day)
				n := len(a.raised())
				if n == 0 {
					t.Fatal("no alarm")
				}
				a.wantLast(t, n, "no fresh release index: ")
			})
		})
	}
}

// A server that answers nothing usable.
func TestMaxStaleness_noAnswer(t *testing.T) {
	for name, attack := range map[string]func(w *world){
		"down":       func(w *world) { w.Offline(true) },
		"a web page": func(w *world) { w.Fail(-1, testserver.StatusFault(404)) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.offering(appA, "1.0.0")
				var a alarms
				c := w.client(app(appA), a.after(3*day))
				s := w.updates(c)
				s.silent(5 * day)
				a.wantLast(t, 0, "")
				attack(w)
				s.silent(2 * day)
				a.wantLast(t, 0, "")
				s.silent(2 * day)
				a.wantLast(t, 1, "no authentic answer from the update server: ")
				w.Offline(false)
				w.Heal()
				s.silent(day)
				want(t, "stale", status(t, c, appA).Stale, "")
			})
		})
	}
}

// Whoever signs the index need not be who signs the releases; those may not even be signed.
func TestReleaseIndex_keysOfItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		index, releases := newPublisher(t), newPublisher(t)
		w.offering(appA, "1.0.0")
		index.announces(w, "2.0.0", 2, func(x *trust.Index) { x.Expires = x.Issued.Add(365 * day) })
		at := omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath, index.public)
		var a, b alarms
		c := w.client(releases.trusted(appA, at), a.after(3*day))
		w.updates(c).silent(4 * day)
		a.wantLast(t, 1, "version 2.0.0 is released")
		must(t, c.Close())
		c = w.client(app(appA, at), b.after(3*day))
		w.updates(c).silent(day)
		b.wantLast(t, 1, "version 2.0.0 is released")
	})
}

// A program that runs for a moment each hour learns of it as well, and writes little for that.
func TestMaxStaleness_cronJob(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		w.offering(appA, "1.0.0")
		p.announces(w, "2.0.0", 2, func(x *trust.Index) { x.Expires = x.Issued.Add(365 * day) })
		run := func() []omahaclient.Staleness {
			var a alarms
			c := w.client(p.trusted(appA, omahaclient.WithReleaseIndex(w.Payloads.URL()+indexPath)), a.after(3*day))
			must(t, w.once(c).closed())
			must(t, c.Close())
			return a.raised()
		}
		for hour := range 80 {
			raised := run()
			if late := hour >= 72; len(raised) > 0 != late {
				t.Fatalf("hour %d: alarms %+v", hour, raised)
			}
			simPass(time.Hour)
		}
	})
}

func TestTrustOptions(t *testing.T) {
	p := newPublisher(t)
	keys := omahaclient.WithTrustedKeys(p.public)
	for _, tt := range []struct {
		name string
		opt  omahaclient.Option
		want string // "" if it is right
	}{
		{"one key", app(appA, keys), ""},
		{"no key", app(appA, omahaclient.WithTrustedKeys()), "WithTrustedKeys"},
		{"junk", app(appA, omahaclient.WithTrustedKeys("RWjunk")), "WithTrustedKeys"},
		{"two verifiers", app(appA, keys, omahaclient.WithVerifier(verifier(nil))), "choose one"},
		{"no verifier", app(appA, omahaclient.WithVerifier(nil)), "WithVerifier"},
		{"minimum without keys", app(appA, omahaclient.WithMinSequence(1)), "WithMinSequence"},
		{"minimum too high", app(appA, keys, omahaclient.WithMinSequence(1<<60)), "WithTrustedKeys"},
		{"index without keys", app(appA, omahaclient.WithReleaseIndex("https://updates.example.com/index.json")), "WithReleaseIndex"},
		{"index", app(appA, keys, omahaclient.WithReleaseIndex("https://updates.example.com/index.json")), ""},
		{"index with keys of its own", app(appA, omahaclient.WithReleaseIndex("https://updates.example.com/index.json", p.public)), ""},
		{"index with junk keys", app(appA, keys, omahaclient.WithReleaseIndex("https://updates.example.com/index.json", "RWjunk")), "WithReleaseIndex"},
		{"index of nothing", app(appA, keys, omahaclient.WithReleaseIndex("")), "WithReleaseIndex"},
		{"index of no URL", app(appA, keys, omahaclient.WithReleaseIndex("index.json")), "WithReleaseIndex"},
		{"staleness", omahaclient.WithMaxStaleness(time.Hour, nil), ""},
		{"no staleness", omahaclient.WithMaxStaleness(0, nil), "WithMaxStaleness"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opts := []omahaclient.Option{omahaclient.WithStateDir(t.TempDir()), app(appB), tt.opt}
			c, err := omahaclient.New("https://updates.example.com/", opts...)
			if err == nil {
				must(t, c.Close())
			}
			if tt.want == "" {
				must(t, err)
				return
			}
			wantErr(t, err, omahaclient.ErrInvalidOption)
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q; want %q in it", err, tt.want)
			}
		})
	}
}

// A machine whose clock is behind takes nothing that had expired when the program was built.
func TestBuildTime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		g := w.offering(appA, "1.0.0")
		p.releases(w, g, appA, "2.0.0", 7)
		built := time.Now().Add(2 * 365 * day) // in the bubble's future: the clock is two years behind
		c := w.client(p.trusted(appA), omahaclient.WithBuildTime(built))
		w.updates(c).silent(3 * time.Hour)
		wantErr(t, status(t, c, appA).LastError, trust.ErrExpired)
	})
}

// Hosts that are silent are waited for side by side.
func TestReleaseIndex_silentHostsHoldUpNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := newPublisher(t)
		var apps []omahaclient.Option
		for _, id := range []string{appA, appB, appC} {
			w.offering(id, "1.0.0")
			w.Payloads.Fail(id+".json", -1, testserver.FileFault{Stall: true})
			w.Payloads.Put(id+".json", []byte("{}"))
			apps = append(apps, p.trusted(id, omahaclient.WithReleaseIndex(w.Payloads.URL()+id+".json")))
		}
		start := time.Now()
		must(t, w.once(w.client(apps...)).closed())
		if took := time.Since(start); took < time.Minute || took > 3*time.Minute {
			t.Errorf("it took %v; want what one takes", took)
		}
	})
}
