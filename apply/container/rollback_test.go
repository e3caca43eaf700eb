package container_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/apply/container"
	"github.com/nebraska/omahaclient/pool"
)

// sick lets the new container get unhealthy.
func sick(c *fakeContainer) {
	if c.Image != "sha256:1" && c.State.Running {
		c.State = &api.State{Running: true, Status: "running", Health: &api.Health{Status: api.Unhealthy}}
	} else {
		heals(c)
	}
}

// before lets a test look at each request first. It answers itself where it returns true.
func (f *fakeEngine) before(t *testing.T, look func(w http.ResponseWriter, r *http.Request, call string) bool) *client.Client {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !look(w, r, callOf(r)) {
			f.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	c, err := client.New(client.WithHost("tcp://" + s.Listener.Addr().String()))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRollback_triesAgain(t *testing.T) {
	for _, call := range []string{
		"POST /containers/#1/start", "DELETE /containers/#2", "POST /containers/#1/rename web", "GET /containers/#1/json", "POST /containers/#1/update",
	} {
		t.Run(call, func(t *testing.T) {
			f := newFake(t, "1.44")
			always := api.RestartPolicy{Name: api.RestartPolicyAlways}
			old := f.first(fakeCreate{HostConfig: &api.HostConfig{NetworkMode: "bridge", RestartPolicy: always}})
			f.looked = sick
			tries := 0
			f.fault = func(is string) (int, string) {
				if is == call && slices.Contains(f.calls, "POST /containers/#2/start") && old.HostConfig.RestartPolicy.Name == api.RestartPolicyDisabled {
					if tries++; tries < 3 {
						return 500, "not now"
					}
				}
				return 0, ""
			}
			err := f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
			if code(err) != 44 || !strings.Contains(err.Error(), "is back on its old image") {
				t.Errorf("error %v, code %d", err, code(err))
			}
			f.alone(t, old)
			if old.HostConfig.RestartPolicy != always {
				t.Errorf("policy %v", old.HostConfig.RestartPolicy)
			}
		})
	}
}

// An engine that is started again ends all containers, and does not answer for a while.
func TestRollback_engineRestarts(t *testing.T) {
	f := newFake(t, "1.44")
	old := f.first(fakeCreate{})
	var away atomic.Bool
	f.looked = func(c *fakeContainer) {
		if c != old && c.Name == "/web" && c.State.Running {
			away.Store(true)
			for _, c := range f.containers {
				c.State = &api.State{Status: "exited"}
			}
			time.AfterFunc(300*time.Millisecond, func() { away.Store(false) })
		}
		heals(c)
	}
	s := f.service(t)
	s.Client = f.before(t, func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		if away.Load() {
			answer(w, 503, map[string]string{"message": "the engine is starting"})
		}
		return away.Load()
	})
	if err := s.Apply(t.Context(), offer(layout(t, imageOf("2")), "2")); code(err) != 44 {
		t.Errorf("error %v, code %d", err, code(err))
	}
	f.alone(t, old)
}

// An engine that does not answer says nothing about the container, which goes on (live restore).
func TestHealth_engineIsAway(t *testing.T) {
	f := newFake(t, "1.44")
	f.looked = heals
	f.first(fakeCreate{})
	away := 0
	f.fault = func(call string) (int, string) {
		if call == "GET /containers/web/json" && slices.Contains(f.calls, "POST /containers/#2/start") {
			if away++; away < 3 {
				return 503, "the engine is starting"
			}
		}
		return 0, ""
	}
	must(t, f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2")))
	if away < 3 {
		t.Error("it was not looked at")
	}
}

// A call that hangs ends, and the update with it.
func TestService_engineHangs(t *testing.T) {
	for _, at := range []string{"POST /images/load", "POST /containers/create web-omahaclient-new", "POST /containers/#1/stop", "POST /containers/#2/start", "GET /containers/web/json"} {
		t.Run(at, func(t *testing.T) {
			f := newFake(t, "1.44")
			f.looked = heals
			old := f.first(fakeCreate{})
			var created, hung atomic.Bool
			s := f.service(t)
			s.Within, s.Stop = 300*time.Millisecond, time.Second
			s.Client = f.before(t, func(_ http.ResponseWriter, r *http.Request, call string) bool {
				if strings.HasPrefix(call, "POST /containers/create") {
					created.Store(true)
				}
				forGood := strings.HasPrefix(at, "GET")
				if call != at || forGood && !created.Load() || !forGood && hung.Swap(true) {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body) // or the server does not see the end of the connection
				<-r.Context().Done()
				return true
			})
			err := s.Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
			if err == nil || !strings.Contains(err.Error(), "within") {
				t.Errorf("error %v", err)
			}
			if at == "GET /containers/web/json" { // which hangs for good
				if f.running() != 1 {
					t.Errorf("there are %q", f.state())
				}
				return
			}
			if f.find("web") != old || !old.State.Running {
				t.Errorf("there are %q", f.state())
			}
		})
	}
}

func TestService_probePanics(t *testing.T) {
	f := newFake(t, "1.44")
	f.looked = heals
	old := f.first(fakeCreate{})
	s := f.service(t)
	s.Probe = apply.ProbeFunc(func(context.Context) error { panic("oh") })
	err := s.Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
	var panicked *pool.PanicError
	if !errors.As(err, &panicked) || code(err) != 44 {
		t.Errorf("error %v, code %d", err, code(err))
	}
	f.alone(t, old)
}

// Whatever else ends the goroutine, the old container is put back.
func TestService_goroutineEnds(t *testing.T) {
	f := newFake(t, "1.44")
	f.looked = heals
	old := f.first(fakeCreate{})
	s := f.service(t)
	s.Probe = apply.ProbeFunc(func(context.Context) error { runtime.Goexit(); return nil })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Apply(context.Background(), offer(layout(t, imageOf("2")), "2"))
	}()
	<-ended
	f.alone(t, old)
}

// docker system prune removes what is stopped, the kept container, too. It is made again.
func TestRollback_oldOneIsPruned(t *testing.T) {
	for _, withImage := range []bool{false, true} {
		t.Run(map[bool]string{false: "container", true: "container and image"}[withImage], func(t *testing.T) {
			f := newFake(t, "1.44")
			always := api.RestartPolicy{Name: api.RestartPolicyAlways}
			old := f.first(fakeCreate{
				Config:     &api.Config{Env: []string{"OWN=1"}, Labels: map[string]string{"own": "1"}, Cmd: []string{"own"}},
				HostConfig: &api.HostConfig{NetworkMode: "bridge", RestartPolicy: always, Binds: []string{"named:/named"}},
			})
			f.looked = func(c *fakeContainer) {
				if c.Image != "sha256:1" && c.State.Running && !old.State.Running {
					f.forget(old)
					if withImage {
						delete(f.images, "registry.example/web:1")
					}
				}
				sick(c)
			}
			err := f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
			now := f.find("web")
			if withImage {
				if !strings.Contains(err.Error(), "is gone") || strings.Contains(err.Error(), "is back on its old image") || !now.State.Running {
					t.Errorf("error %v; there are %q", err, f.state())
				}
				return
			}
			if code(err) != 44 || !strings.Contains(err.Error(), "is back on its old image") {
				t.Errorf("error %v, code %d", err, code(err))
			}
			if now == nil || now == old || now.Image != "sha256:1" {
				t.Fatalf("there are %q", f.state())
			}
			f.alone(t, now)
			same(t, old, now, f.add("again", old.asked, f.images["registry.example/web:1"]))
		})
	}
}

// What somebody else puts in the new container's place is not the update.
func TestHealth_replacedByHand(t *testing.T) {
	f := newFake(t, "1.44")
	old := f.first(fakeCreate{})
	var by *fakeContainer
	f.looked = func(c *fakeContainer) {
		if by == nil && c != old && c.Name == "/web" && c.State.Running {
			f.forget(c)
			by = f.add("web", fakeCreate{Config: &api.Config{Image: "registry.example/web:1"}, HostConfig: &api.HostConfig{NetworkMode: "bridge"}}, f.images["registry.example/web:1"])
			by.State = &api.State{Running: true, Status: "running"}
			by.State.Health = &api.Health{Status: api.Healthy}
			return // what is told is a moment old
		}
		heals(c)
	}
	err := f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2"))
	if err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("error %v", err)
	}
	if f.find("web") != by || !by.State.Running || old.State.Running {
		t.Errorf("there are %q", f.state())
	}
}

// The kept container does not start with the engine, as long as it is kept.
func TestService_keptOneStaysDown(t *testing.T) {
	f := newFake(t, "1.44")
	old := f.first(fakeCreate{HostConfig: &api.HostConfig{NetworkMode: "bridge", RestartPolicy: api.RestartPolicy{Name: api.RestartPolicyAlways}}})
	kept := api.RestartPolicyMode("")
	f.looked = func(c *fakeContainer) {
		if c != old && c.State.Running {
			kept = old.HostConfig.RestartPolicy.Name
		}
		heals(c)
	}
	must(t, f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2")))
	if now := f.find("web").HostConfig.RestartPolicy.Name; kept != api.RestartPolicyDisabled || now != api.RestartPolicyAlways {
		t.Errorf("policy %q while it is kept, of the new one %q", kept, now)
	}
}

// A container whose own health check takes longer for its verdict gets that time.
func TestHealth_patience(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    *api.HealthConfig
		want time.Duration
	}{
		{"none", nil, 0},
		{"taken away", &api.HealthConfig{Test: []string{"NONE"}, Interval: time.Hour}, 0},
		{"defaults", &api.HealthConfig{Test: []string{"CMD", "x"}}, 4 * time.Minute},
		{"its own", &api.HealthConfig{Test: []string{"CMD", "x"}, StartPeriod: 10 * time.Minute, Interval: time.Minute, Timeout: time.Second, Retries: 1}, 12*time.Minute + 2*time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &api.InspectResponse{Config: &api.Config{Healthcheck: tc.h}}
			if got := container.Patience(c); got != tc.want {
				t.Errorf("%v; want %v", got, tc.want)
			}
		})
	}
}
