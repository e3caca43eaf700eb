package apply_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// released reports how often the lock was given back. mu is held.
func (m *lockManager) released() int {
	return len(slices.DeleteFunc(slices.Clone(m.asked), func(path string) bool { return path != "steady-state" }))
}

// Two apps of a machine have the same lock: the end of one update does not end it for the other.
func TestFleetLock_isHeldUntilNoAppNeedsIt(t *testing.T) {
	w, m := onSockets(t), newLockManager(t)
	w.offering(appA, "2.0.0", []byte("x"))
	w.offering(appB, "2.0.0", []byte("x"))
	a, b := newStep(), newStep()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := serve(ctx, w.client(app(appA), app(appB)), apply.Mux{appA: m.around(a), appB: m.around(b)})
	<-a.called
	<-b.called
	a.result <- nil
	must(t, w.WaitFor(t.Context(), func(*testserver.Server) bool { return w.reached(appA, testserver.Complete)() }))
	want(t, "held while the other app is updated", m.heldBy("m1"), true)
	b.result <- nil
	m.wait(func() bool { return m.holder == "" })
	cancel(errDone)
	wantErr(t, <-done, errDone)
	m.mu.Lock()
	defer m.mu.Unlock()
	want(t, "releases", m.released(), 1)
	if files := names(t, w.dir); strings.Contains(files, "fleetlock-") {
		t.Errorf("left: %s", files)
	}
}

// The same in Resume: what a crash left of one app is no reason to take the lock from another.
func TestFleetLock_resumesBesideAnotherAppsUpdate(t *testing.T) {
	w, m := onSockets(t), newLockManager(t)
	w.offering(appB, "2.0.0", []byte("x"))
	w.noted(appA, m.around(nil))
	ctx, cancel := context.WithCancelCause(t.Context())
	b := newStep()
	resumed := restorer{newStep(), make(chan struct{})} // holds app A's Resume back until B has the lock
	done := serve(ctx, w.client(app(appA), app(appB)), apply.Mux{appA: m.around(resumed), appB: m.around(b)})
	<-resumed.restoring
	<-b.called
	resumed.restoring <- struct{}{}
	eventually(t, "app A's note is gone", func() bool {
		_, err := os.Stat(apply.FleetNote(w.dir, appA, m.around(nil)))
		return errors.Is(err, fs.ErrNotExist)
	})
	want(t, "held while the other app is updated", m.heldBy("m1"), true)
	b.result <- nil
	m.wait(func() bool { return m.holder == "" })
	cancel(errDone)
	wantErr(t, <-done, errDone)
}

// A login page's 200 is no lock.
func TestFleetLock_followsNoRedirect(t *testing.T) {
	for name, client := range map[string]*http.Client{"its own client": nil, "a given one": {}} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan string, 100)
			page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case asked <- r.URL.Path:
				default:
				}
				if r.URL.Path != "/login" {
					http.Redirect(w, r, "/login", http.StatusFound)
				}
			}))
			defer page.Close()
			w := onSockets(t)
			w.offering(appA, "2.0.0", []byte("x"))
			a := newStep()
			l := apply.FleetLock{URL: page.URL, ID: "m1", Applier: a, Poll: time.Millisecond, Client: client}
			ctx, cancel := context.WithCancelCause(t.Context())
			done := serve(ctx, w.client(app(appA)), l)
			for range 3 {
				select {
				case path := <-asked:
					want(t, "asked for", path, "/v1/pre-reboot")
				case <-a.called:
					t.Error("a login page has granted the lock")
					a.result <- nil
				}
			}
			cancel(errDone)
			wantErr(t, <-done, errDone)
			if client != nil && client.CheckRedirect != nil {
				t.Error("the client that was given is changed")
			}
		})
	}
}

// The host name has changed, or the lock manager has moved: what was taken is released.
func TestFleetLock_releasesWhatWasTaken(t *testing.T) {
	for _, tc := range []struct {
		name string
		now  func(old apply.FleetLock) apply.Applier
	}{
		{"another id", func(old apply.FleetLock) apply.Applier { old.ID = "m2"; return old }},
		{"another manager", func(old apply.FleetLock) apply.Applier { old.URL = "http://127.0.0.1:1/"; return old }},
		{"no FleetLock any more", func(apply.FleetLock) apply.Applier { return nothing }},
		{"no FleetLock around a Binary any more", func(apply.FleetLock) apply.Applier { return apply.Mux{appA: apply.Binary{}} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, m := onSockets(t), newLockManager(t)
			w.AddGroup(appA, track, testserver.AnyArch, testserver.Policy{})
			l := m.around(nothing)
			m.holder = l.ID
			w.noted(appA, l)
			ctx, cancel := context.WithCancelCause(t.Context())
			done := serve(ctx, w.client(app(appA)), tc.now(l))
			m.wait(func() bool { return m.holder == "" })
			cancel(errDone)
			wantErr(t, <-done, errDone)
		})
	}
}

// An app that is not configured any more holds no lock for ever.
func TestFleetLock_releasesForAnAppThatIsGone(t *testing.T) {
	w, m := onSockets(t), newLockManager(t)
	w.AddGroup(appA, track, testserver.AnyArch, testserver.Policy{})
	l := m.around(nothing)
	m.holder = l.ID
	w.noted(appB, l)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := serve(ctx, w.client(app(appA)), l)
	m.wait(func() bool { return m.holder == "" })
	cancel(errDone)
	wantErr(t, <-done, errDone)
}

// roundTripper is a function as an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A lock manager that does not answer holds up no verdict for long; Serve goes on asking it.
func TestFleetLock_verdictsDoNotWaitForTheRelease(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("x"))
		released := make(chan time.Time, 1)
		transport := func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "steady-state") {
				if !w.reached(appA, testserver.Complete)() {
					<-r.Context().Done()
					return nil, context.Cause(r.Context())
				}
				released <- time.Now()
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
		}
		a := newStep()
		ctx, cancel := context.WithCancelCause(t.Context())
		l := apply.FleetLock{URL: "http://lock.example.com", ID: "m1", Applier: a, Client: &http.Client{Transport: roundTripper(transport)}}
		done := serve(ctx, w.client(app(appA)), l)
		<-a.called
		a.result <- nil
		began := time.Now()
		must(t, w.WaitFor(t.Context(), func(*testserver.Server) bool { return w.reached(appA, testserver.Complete)() }))
		if waited := time.Since(began); waited > 10*time.Second { // by the bubble's clock
			t.Errorf("the verdict came after %v", waited)
		}
		<-released
		cancel(errDone)
		wantErr(t, <-done, errDone)
	})
}

// A machine that waits for the lock when Serve ends waits no longer, and begins nothing.
func TestFleetLock_waitsNoLongerThanServe(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0", []byte("x"))
		var free atomic.Bool
		transport := func(r *http.Request) (*http.Response, error) {
			status := http.StatusConflict
			if free.Load() {
				status = http.StatusOK
			}
			return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
		}
		a := newStep()
		ctx, cancel := context.WithCancelCause(t.Context())
		l := apply.FleetLock{URL: "http://lock.example.com", ID: "m1", Applier: a, Client: &http.Client{Transport: roundTripper(transport)}}
		c := w.client(app(appA))
		done := serve(ctx, c, l)
		<-time.After(time.Minute)
		want(t, "phase", c.Status()[0].Phase, omahaclient.Offered)
		cancel(omahaclient.ErrRestartRequired) // which is no verdict
		free.Store(true)                       // within the grace
		wantErr(t, <-done, omahaclient.ErrRestartRequired)
		want(t, "calls of Apply", len(a.called), 0)
		want(t, "phase afterwards", c.Status()[0].Phase, omahaclient.Offered)
	})
}

func TestFleetLock_passesRestoreOn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := restorer{newStep(), make(chan struct{})}
		ctx, cancel := context.WithCancelCause(t.Context())
		done := serve(ctx, w.client(app(appA)), apply.FleetLock{URL: "http://lock.example.com", ID: "m1", Applier: a})
		select {
		case <-a.restoring:
		case <-time.After(time.Minute): // by the bubble's clock
			t.Error("not restored")
		}
		cancel(errDone)
		wantErr(t, <-done, errDone)
	})
}

func TestFleetLock_showsNoSecrets(t *testing.T) {
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"kind":"denied","value":"%s:%s %s"}`, user, password, r.Header.Get("X-Token"))
	}))
	defer echo.Close()
	w := onSockets(t)
	l := apply.FleetLock{URL: echo.URL, ID: "m1", Applier: nothing, Poll: time.Millisecond}
	w.noted(appA, l)
	w.AddGroup(appA, track, testserver.AnyArch, testserver.Policy{})
	l.URL = strings.Replace(l.URL, "//", "//user:hunter22@", 1)
	l.Authorize = func(r *http.Request) error { r.Header.Set("X-Token", "sesame-open"); return nil }
	ctx, cancel := context.WithCancelCause(t.Context())
	done := serve(ctx, w.client(app(appA)), l)
	eventually(t, "the failure is logged", func() bool { return strings.Contains(w.log.String(), "fleet lock is not released yet") })
	cancel(errDone)
	wantErr(t, <-done, errDone)
	wantText(t, errors.New(w.log.String()), "denied")
	for _, secret := range []string{"hunter22", "sesame-open"} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("%s is in the log:\n%s", secret, w.log)
		}
	}
}

func TestFleetLock_writesNoPasswordToDisk(t *testing.T) {
	w, m := onSockets(t), newLockManager(t)
	w.offering(appA, "2.0.0", []byte("x"))
	l := m.around(nil)
	l.URL = strings.Replace(l.URL, "//", "//user:hunter22@", 1)
	l.Applier = apply.Func(func(context.Context, omahaclient.UpdateOffer) error {
		note, err := os.ReadFile(apply.FleetNote(w.dir, appA, l))
		if err != nil || !strings.Contains(string(note), `"id":"m1"`) || strings.Contains(string(note), "hunter22") {
			t.Errorf("note %s, %v", note, err)
		}
		return nil
	})
	must(t, w.outcome(l))
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for limit := time.After(time.Minute); !cond(); {
		select {
		case <-limit:
			t.Fatalf("not within a minute: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}
