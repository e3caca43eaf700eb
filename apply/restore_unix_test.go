//go:build unix

package apply_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
)

const killed = "killed"

// killAt makes a hook that ends an Apply or a Restore as a kill does, at a point's nth time.
func killAt(point string, nth int) func(string) error {
	return func(now string) error {
		if now == point {
			if nth--; nth == 0 {
				panic(killed)
			}
		}
		return nil
	}
}

// living calls fn and reports whether it was not killed.
func living(fn func() error) (err error, lived bool) { //nolint:revive // as fn's, and more
	defer func() {
		if v := recover(); v != nil && v != killed {
			panic(v)
		}
	}()
	return fn(), true
}

// place is where an Applier puts versions, and how.
type place struct {
	name    string
	dir     string
	payload func(version string) string
	applier func(probe apply.Probe, activate func(context.Context) error, hook func(string) error) applier
	version func() string // in place; "" for none
	swapped string        // the step after which the new version is in place
}

type applier interface {
	apply.Applier
	apply.Restorer
}

// places are a Binary's and an Archive's, with version 1.0.0 in them.
func places(t *testing.T) []place {
	t.Helper()
	binary, archive := t.TempDir(), t.TempDir()
	path := filepath.Join(binary, "agent")
	list := []place{
		{"Binary", binary, func(v string) string { return program(v, 0) }, func(p apply.Probe, a func(context.Context) error, hook func(string) error) applier {
			return apply.Binary{Path: path, NoTry: true, Probe: p, Activate: a}.Faulty(hook)
		}, func() string {
			content, _ := os.ReadFile(path)
			_, version, _ := strings.Cut(string(content), "echo version ")
			version, _, _ = strings.Cut(version, ";")
			return version
		}, "place new"},
		{"Archive", archive, func(v string) string { return tarOf(t, site(v)...) }, func(p apply.Probe, a func(context.Context) error, hook func(string) error) applier {
			return apply.Archive{Dir: archive, Probe: p, Activate: a}.Faulty(hook)
		}, func() string {
			content, _ := os.ReadFile(filepath.Join(archive, "current", "index.html"))
			return strings.TrimPrefix(string(content), "version ")
		}, "switch"},
	}
	for _, p := range list {
		must(t, p.applier(nil, nil, nil).Apply(t.Context(), offer(t, "1.0.0", p.payload("1.0.0"))))
	}
	return list
}

func inPlaces(t *testing.T, fn func(t *testing.T, p place)) {
	t.Helper()
	for n, name := range []string{"Binary", "Archive"} {
		t.Run(name, func(t *testing.T) { fn(t, places(t)[n]) })
	}
}

// interrupt kills an update to a version after it has taken its place.
func (p place) interrupt(t *testing.T, version string) {
	t.Helper()
	_, lived := living(func() error {
		return p.applier(nil, nil, killAt("after: "+p.swapped, 1)).Apply(t.Context(), offer(t, version, p.payload(version)))
	})
	want(t, "lived", lived, false)
	want(t, "in place after the kill", p.version(), version)
}

var bad = apply.ProbeFunc(func(context.Context) error { return errDone })

// activations keeps what is in place at each activation.
type activations struct{ list []string }

func (a *activations) of(p place) func(context.Context) error {
	return func(context.Context) error { a.list = append(a.list, p.version()); return nil }
}

func (a *activations) want(t *testing.T, versions string) {
	t.Helper()
	want(t, "activated", strings.Join(a.list, " "), versions)
	a.list = nil
}

func TestRestore_provesWhatACrashLeft(t *testing.T) {
	inPlaces(t, func(t *testing.T, p place) {
		p.interrupt(t, "2.0.0")
		var seen activations
		probed := 0
		well := apply.ProbeFunc(func(context.Context) error { probed++; return nil })
		must(t, p.applier(well, seen.of(p), nil).Restore(t.Context(), nil, ""))
		seen.want(t, "2.0.0")
		want(t, "probed", probed, 1)
		must(t, p.applier(well, seen.of(p), nil).Restore(t.Context(), nil, ""))
		seen.want(t, "")
		want(t, "probed once it is proved", probed, 1)

		second := offer(t, "2.0.0", p.payload("2.0.0"))
		must(t, p.applier(well, seen.of(p), nil).Apply(t.Context(), second))
		seen.want(t, "") // it runs
		want(t, "probed by its offer, which comes again", probed, 2)
		err := p.applier(bad, seen.of(p), nil).Apply(t.Context(), second)
		want(t, "code", code(err), 44)
		want(t, "in place", p.version(), "1.0.0")
		seen.want(t, "1.0.0")
	})
}

func TestRestore_rollsBackWhatACrashLeft(t *testing.T) {
	inPlaces(t, func(t *testing.T, p place) {
		p.interrupt(t, "2.0.0")
		var seen activations
		err := p.applier(bad, seen.of(p), nil).Restore(t.Context(), nil, "")
		wantErr(t, err, errDone)
		want(t, "code", code(err), 44)
		want(t, "in place", p.version(), "1.0.0")
		seen.want(t, "2.0.0 1.0.0")
		must(t, p.applier(bad, seen.of(p), nil).Restore(t.Context(), nil, ""))
		seen.want(t, "")
	})
}

func TestRestore_leavesToTheNextStartWhatIsCutShort(t *testing.T) {
	inPlaces(t, func(t *testing.T, p place) {
		p.interrupt(t, "2.0.0")
		ctx, cancel := context.WithCancel(t.Context())
		cut := apply.ProbeFunc(func(context.Context) error { cancel(); return ctx.Err() })
		wantErr(t, p.applier(cut, nil, nil).Restore(ctx, nil, ""), context.Canceled)
		want(t, "in place", p.version(), "2.0.0")
		wantErr(t, p.applier(bad, nil, nil).Restore(t.Context(), nil, ""), errDone)
		want(t, "in place", p.version(), "1.0.0")
	})
}

func TestRestore_hasNothingToDoWhereNothingWasInterrupted(t *testing.T) {
	inPlaces(t, func(t *testing.T, p place) {
		var seen activations
		must(t, p.applier(bad, seen.of(p), nil).Restore(t.Context(), nil, ""))
		want(t, "code", code(p.applier(bad, seen.of(p), nil).Apply(t.Context(), offer(t, "2.0.0", p.payload("2.0.0")))), 44)
		seen.want(t, "2.0.0 1.0.0")
		must(t, p.applier(bad, seen.of(p), nil).Restore(t.Context(), nil, ""))
		seen.want(t, "")
	})
	must(t, apply.Archive{Dir: filepath.Join(t.TempDir(), "none"), Probe: bad}.Restore(t.Context(), nil, ""))
	must(t, apply.Archive{Dir: t.TempDir(), Probe: bad}.Restore(t.Context(), nil, ""))
	must(t, apply.Binary{Path: filepath.Join(t.TempDir(), "none"), Probe: bad}.Restore(t.Context(), nil, ""))
}

// Whatever was never found well is not gone back to.
func TestApply_goesBackToWhatWasWell(t *testing.T) {
	inPlaces(t, func(t *testing.T, p place) {
		p.interrupt(t, "2.0.0")
		p.interrupt(t, "3.0.0")
		err := p.applier(bad, nil, nil).Apply(t.Context(), offer(t, "4.0.0", p.payload("4.0.0")))
		want(t, "code", code(err), 44)
		want(t, "in place", p.version(), "1.0.0")

		p.interrupt(t, "2.0.0")
		must(t, p.applier(nil, nil, nil).Apply(t.Context(), offer(t, "3.0.0", p.payload("3.0.0"))))
		err = p.applier(bad, nil, nil).Apply(t.Context(), offer(t, "4.0.0", p.payload("4.0.0")))
		want(t, "code", code(err), 44)
		want(t, "in place", p.version(), "3.0.0")
	})
}

// Restore is killed at each of its own steps, too, and at those of a rollback.
func TestRestore_killedAtEveryStep(t *testing.T) {
	kills := 0
	for n := range places(t) {
		for _, probe := range []apply.Probe{nil, bad} {
			end := map[bool]string{true: "2.0.0", false: "1.0.0"}[probe == nil]
			var points []string
			for at := -1; at < len(points); at++ {
				p := places(t)[n]
				p.interrupt(t, "2.0.0")
				var seen activations
				hook := func(point string) error { points = append(points, point); return nil }
				if at >= 0 {
					count := 0
					for _, point := range points[:at+1] {
						if point == points[at] {
							count++
						}
					}
					hook = killAt(points[at], count)
				}
				_, lived := living(func() error { return p.applier(probe, seen.of(p), hook).Restore(t.Context(), nil, "") })
				want(t, "lived", lived, at < 0)
				if v := p.version(); v != "1.0.0" && v != "2.0.0" {
					t.Errorf("%s, killed at %s: neither the old nor the new version: %q", p.name, points[at], v)
				}
				_ = p.applier(probe, seen.of(p), nil).Restore(t.Context(), nil, "")
				what := p.name + ", killed at " + points[max(at, 0)]
				want(t, what+": in place", p.version(), end)
				if last := seen.list[len(seen.list)-1]; last != end {
					t.Errorf("%s: the last one made to run is %s; want %s", what, last, end)
				}
				must(t, p.applier(bad, seen.of(p), nil).Restore(t.Context(), nil, "")) // nothing is left to do
				kills++
			}
		}
	}
	t.Logf("%d kills", kills)
}

func TestRestore_isNoRollBackOfWhatSomebodyElsePutThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent")
	for _, point := range []string{"after: write swap", "after: place new", "before: link back"} {
		write(t, path, program("1", 0), 0o755)
		b := apply.Binary{Path: path, NoTry: true, Probe: bad}
		_, lived := living(func() error { return b.Faulty(killAt(point, 1)).Apply(t.Context(), offer(t, "2.0.0", program("2", 0))) })
		want(t, "lived", lived, false)
		write(t, path, program("mine", 0), 0o755)
		must(t, b.Restore(t.Context(), nil, ""))
		wantFile(t, path, program("mine", 0))
		want(t, "still written down", strings.Contains(names(t, filepath.Dir(path)), "swap"), false)
	}
}

func TestRestore_putsBackAnExecutableThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent")
	write(t, path, program("1", 0), 0o755)
	b := apply.Binary{Path: path, NoTry: true}
	_, _ = living(func() error {
		return b.Faulty(killAt("after: place new", 1)).Apply(t.Context(), offer(t, "2.0.0", program("2", 0)))
	})
	must(t, os.Remove(path)) // as between Windows' two renames
	want(t, "code", code(b.Restore(t.Context(), nil, "")), 44)
	wantFile(t, path, program("1", 0))
}

// The release is withdrawn while the machine is down, because it is bad.
func TestServe_endsAnInterruptedUpdateWhoseReleaseIsWithdrawn(t *testing.T) {
	inPlaces(t, func(t *testing.T, p place) {
		inBubble(t, func(t *testing.T, w *world) {
			group := w.offering(appA, "2.0.0", []byte(p.payload("2.0.0")))
			ctx, cancel := context.WithCancelCause(t.Context())
			kill := apply.ProbeFunc(func(ctx context.Context) error { cancel(errDone); <-ctx.Done(); return ctx.Err() })
			c := w.client(app(appA))
			wantErr(t, apply.Server{Grace: -1}.Serve(ctx, c, p.applier(kill, nil, nil)), errDone)
			must(t, c.Close())
			want(t, "in place", p.version(), "2.0.0")
			w.pass(2 * time.Hour)
			group.Publish(release("1.0.0", []byte(p.payload("1.0.0"))))

			c = w.client(app(appA))
			ctx, cancel = context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() { done <- apply.Server{Logger: w.logger()}.Serve(ctx, c, p.applier(bad, nil, nil)) }()
			w.pass(3 * time.Second)
			want(t, "phase", c.Status()[0].Phase, omahaclient.Idle)
			want(t, "in place", p.version(), "1.0.0")
			cancel(errDone)
			wantErr(t, <-done, errDone)
			wantText(t, errors.New(w.log.String()), "back")
		})
	})
}
