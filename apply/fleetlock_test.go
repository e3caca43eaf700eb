package apply_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// lockManager speaks FleetLock, for one machine at a time.
type lockManager struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex // guards what follows
	holder  string
	asked   []string
	refuse  int // the next requests
	changed chan struct{}
}

func newLockManager(t *testing.T) *lockManager {
	m := &lockManager{t: t, changed: make(chan struct{})}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *lockManager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Params struct{ ID, Group string } `json:"client_params"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Method != http.MethodPost || r.Header.Get("Fleet-Lock-Protocol") != "true" || body.Params.Group != "default" {
		m.t.Errorf("%s %s %v %+v: %v", r.Method, r.URL, r.Header, body, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { close(m.changed); m.changed = make(chan struct{}) }()
	m.asked = append(m.asked, strings.TrimPrefix(r.URL.Path, "/base/v1/"))
	switch {
	case m.refuse > 0:
		m.refuse--
		w.WriteHeader(http.StatusServiceUnavailable)
	case strings.HasSuffix(r.URL.Path, "pre-reboot") && (m.holder == "" || m.holder == body.Params.ID):
		m.holder = body.Params.ID
	case strings.HasSuffix(r.URL.Path, "steady-state"):
		if m.holder == body.Params.ID {
			m.holder = ""
		}
	default:
		w.WriteHeader(http.StatusConflict)
		w.Write([]byte(`{"kind":"failed_lock","value":"semaphore is full"}`))
	}
}

// wait waits until cond holds, which is called with mu held.
func (m *lockManager) wait(cond func() bool) {
	m.t.Helper()
	limit := time.After(time.Minute)
	for {
		m.mu.Lock()
		ok, changed := cond(), m.changed
		m.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			m.t.Fatalf("asked %v, held by %q", m.asked, m.holder)
		}
	}
}

func (m *lockManager) heldBy(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holder == id
}

// nothing is an Applier that does nothing.
var nothing = apply.Func(func(context.Context, omahaclient.UpdateOffer) error { return nil })

// noted makes the note that a crashed Apply leaves.
func (w *world) noted(appID string, l apply.FleetLock) {
	w.t.Helper()
	content, err := json.Marshal(map[string]string{"url": l.URL, "group": "default", "id": l.ID, "app_id": appID, "version": "1.0.0"})
	must(w.t, err)
	write(w.t, apply.FleetNote(w.dir, appID, l), string(content), 0o600)
}

func (m *lockManager) around(a apply.Applier) apply.FleetLock {
	return apply.FleetLock{URL: m.URL + "/base", ID: "m1", Applier: a, Poll: time.Millisecond}
}

func TestFleetLock_holdsTheLockAroundTheUpdate(t *testing.T) {
	for name, result := range map[string]error{"success": nil, "rollback": omahaclient.WithCode(errors.New("not well"), 44)} {
		t.Run(name, func(t *testing.T) {
			w, m := onSockets(t), newLockManager(t)
			m.holder, m.refuse = "m2", 2
			w.offering(appA, "2.0.0", []byte("x"))
			go func() {
				m.wait(func() bool { return len(m.asked) > 4 })
				m.mu.Lock()
				m.holder = ""
				m.mu.Unlock()
			}()
			err := w.outcome(m.around(apply.Func(func(context.Context, omahaclient.UpdateOffer) error {
				want(t, "held", m.heldBy("m1"), true)
				return result
			})))
			wantErr(t, err, result)
			want(t, "held afterwards", m.heldBy(""), true)
			if files := names(t, w.dir); strings.Contains(files, "fleetlock-") {
				t.Errorf("left: %s", files)
			}
		})
	}
}

func TestFleetLock_survivesTheRestart(t *testing.T) {
	w, m := onSockets(t), newLockManager(t)
	w.offering(appA, "2.0.0", []byte("x"))
	l := m.around(apply.Func(func(context.Context, omahaclient.UpdateOffer) error { return omahaclient.ErrRestartRequired }))
	wantErr(t, w.outcome(l), omahaclient.ErrRestartRequired)
	want(t, "held over the restart", m.heldBy("m1"), true)

	c := w.client(appAt(appA, "2.0.0", omahaclient.WithManualConfirm()))
	ctx, cancel := context.WithCancelCause(t.Context())
	done := serve(ctx, c, l)
	must(t, w.WaitFor(t.Context(), func(*testserver.Server) bool { return len(w.instance(appA).History) > 3 }))
	want(t, "held until the confirmation", m.heldBy("m1"), true)
	must(t, c.Confirm(appA))
	m.wait(func() bool { return m.holder == "" })
	cancel(errDone)
	wantErr(t, <-done, errDone)
}

func TestFleetLock_releasesWhatACrashLeft(t *testing.T) {
	w, m := onSockets(t), newLockManager(t)
	w.offering(appA, "2.0.0", []byte("x"))
	c := w.client(app(appA))
	ctx, cancel := context.WithCancelCause(t.Context())
	l := m.around(apply.Func(func(ctx context.Context, _ omahaclient.UpdateOffer) error {
		cancel(errDone)
		<-ctx.Done()
		return ctx.Err()
	}))
	wantErr(t, apply.Server{Grace: -1}.Serve(ctx, c, l), errDone)
	must(t, c.Close())
	want(t, "held", m.heldBy("m1"), true)

	l.Applier = nothing
	c = w.client(appAt(appA, "2.0.0")) // updated by hand meanwhile
	ctx, cancel = context.WithCancelCause(t.Context())
	done := serve(ctx, c, l)
	m.wait(func() bool { return m.holder == "" })
	cancel(errDone)
	wantErr(t, <-done, errDone)
}

func TestFleetLock_saysWhatIsWrong(t *testing.T) {
	w := onSockets(t)
	w.offering(appA, "2.0.0", []byte("x"))
	wantText(t, w.outcome(apply.FleetLock{URL: "lock.example.com", Applier: apply.Func(nil)}), "absolute http(s) URL")
	wantErr(t, apply.FleetLock{}.Apply(t.Context(), omahaclient.UpdateOffer{}), omahaclient.ErrUnbound)
}

// The release of a lock that a crash left, and an offer that comes at the same moment: the offer's lock is not lost.
func TestFleetLock_releasesNothingBesideAnUpdate(t *testing.T) {
	w, m := onSockets(t), newLockManager(t)
	c := w.client(app(appA))
	var releasing, going sync.WaitGroup // what Resume does, and the update that comes meanwhile
	releasing.Add(1)
	going.Add(1)
	held := make(chan bool, 1)
	l := m.around(apply.Func(func(context.Context, omahaclient.UpdateOffer) error {
		going.Done()
		m.wait(func() bool { return len(m.asked) > 1 })
		m.mu.Lock()
		defer m.mu.Unlock()
		held <- m.holder == "m1"
		return nil
	}))
	w.noted(appA, l)
	var once sync.Once
	l.Authorize = func(r *http.Request) error {
		if strings.HasSuffix(r.URL.Path, "steady-state") {
			once.Do(func() { // decided, and not yet sent
				releasing.Done()
				waited := make(chan struct{})
				go func() { going.Wait(); close(waited) }()
				select {
				case <-waited:
				case <-time.After(500 * time.Millisecond): // it waits for us, as it should
				}
			})
		}
		return nil
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := serve(ctx, c, l)
	releasing.Wait()
	w.offering(appA, "2.0.0", []byte("x"))
	want(t, "held while the update is applied", <-held, true)
	m.wait(func() bool { return m.holder == "" })
	cancel(errDone)
	wantErr(t, <-done, errDone)
}
