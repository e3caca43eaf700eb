package container_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// exchanged is what an update leaves that dies in its exchange's end: the new container has the old one's name.
func (f *fakeEngine) exchanged(asked *api.HostConfig) (old, next *fakeContainer) {
	old = f.first(fakeCreate{HostConfig: asked})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images["localhost/omahaclient/web:2"] = &fakeImage{"sha256:2", imageOf("2")}
	host := *old.HostConfig
	next = f.add("web", fakeCreate{
		Config: &api.Config{Image: "localhost/omahaclient/web:2", Labels: map[string]string{"omahaclient.digest": "sha256:digest"}}, HostConfig: &host,
	}, f.images["localhost/omahaclient/web:2"])
	old.Name = "/web-omahaclient-old"
	return old, next
}

func (f *fakeEngine) state() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		list = append(list, fmt.Sprintf("%s (%s) %s", c.Name, c.Image, c.State.Status))
	}
	return list
}

// alone checks that one container is left and runs under the service's name.
func (f *fakeEngine) alone(t *testing.T, c *fakeContainer) {
	t.Helper()
	f.quiet()
	f.mu.Lock()
	ok := len(f.containers) == 1 && f.containers[0] == c && c.Name == "/web" && c.State.Running
	f.mu.Unlock()
	if !ok {
		t.Errorf("there are %q; want one that runs, of image %s", f.state(), c.Image)
	}
}

// An engine goes on with a stop after the death of who asked for it. Recover, of a process that is there again at once, waits
// for its end.
func TestRecover_whileTheOldOneStops(t *testing.T) {
	for name, like := range map[string]engineKind{"docker": containerd, "podman": podmanLike} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, "1.44")
			f.like, f.takes = like, 300*time.Millisecond
			old, _ := f.exchanged(nil)
			f.mu.Lock()
			f.end(old)
			f.mu.Unlock()
			must(t, f.service(t).Recover(t.Context()))
			f.alone(t, old)
		})
	}
}

// The same for the removal of the new one, in a rollback.
func TestRecover_whileTheNewOneIsRemoved(t *testing.T) {
	f := newFake(t, "1.44")
	f.looked = func(c *fakeContainer) {
		if c.Image != "sha256:1" && c.State.Running {
			c.State.Health = &api.Health{Status: api.Unhealthy}
		}
	}
	old := f.first(fakeCreate{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dead := errors.New("dead")
	s := f.service(t)
	s.Client = f.client(t, client.WithHTTPRequestHook(func(r *http.Request) error {
		if r.Method == http.MethodDelete && strings.HasSuffix(callOf(r), "#2") {
			f.mu.Lock()
			f.takes = 300 * time.Millisecond
			f.mu.Unlock()
			time.AfterFunc(100*time.Millisecond, cancel)
			return nil
		}
		if ctx.Err() != nil {
			return dead
		}
		return nil
	}))
	died := make(chan error, 1)
	go func() { died <- s.Apply(t.Context(), offer(layout(t, imageOf("2")), "2")) }()
	<-ctx.Done()
	must(t, f.service(t).Recover(t.Context()))
	f.alone(t, old)
	if err := <-died; !errors.Is(err, dead) {
		t.Errorf("error %v", err)
	}
	f.alone(t, old)
}

func TestApply_endsWhileTheOldOneStops(t *testing.T) {
	for name, like := range map[string]engineKind{"docker": containerd, "podman": podmanLike} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, "1.44")
			f.like, f.takes, f.looked = like, 300*time.Millisecond, heals
			old := f.first(fakeCreate{})
			over := errors.New("the grace is over")
			ctx, cancel := context.WithCancelCause(t.Context())
			f.fault = func(call string) (int, string) {
				if strings.HasSuffix(call, "/stop") {
					time.AfterFunc(50*time.Millisecond, func() { cancel(over) })
				}
				return 0, ""
			}
			err := f.service(t).Apply(ctx, offer(layout(t, imageOf("2")), "2"))
			if !errors.Is(err, over) {
				t.Errorf("error %v", err)
			}
			f.alone(t, old)
		})
	}
}

// What is started before its port is free is started again.
func TestRecover_triesAgain(t *testing.T) {
	f := newFake(t, "1.44")
	old, _ := f.exchanged(nil)
	old.State = &api.State{Status: "exited"}
	starts := 0
	f.fault = func(call string) (int, string) {
		if strings.HasSuffix(call, "/start") {
			if starts++; starts < 3 {
				return 500, "port is already allocated"
			}
		}
		return 0, ""
	}
	must(t, f.service(t).Recover(t.Context()))
	f.alone(t, old)
}

// As long as nothing starts, the old one's name says that there is something to do.
func TestRecover_remembersWhatItCouldNotDo(t *testing.T) {
	f := newFake(t, "1.44")
	old, _ := f.exchanged(nil)
	old.State = &api.State{Status: "exited"}
	f.fault = func(call string) (int, string) {
		if strings.HasSuffix(call, "/start") {
			return 500, "port is already allocated"
		}
		return 0, ""
	}
	if err := f.service(t).Recover(t.Context()); err == nil || !strings.Contains(err.Error(), "already allocated") {
		t.Errorf("error %v", err)
	}
	if old.Name != "/web-omahaclient-old" {
		t.Errorf("it is called %s", old.Name)
	}
	f.mu.Lock()
	f.fault = nil
	f.mu.Unlock()
	must(t, f.service(t).Recover(t.Context()))
	f.alone(t, old)
}

// An engine that starts both containers with itself must not leave both running on the same volumes.
func TestRecover_stopsTheOldBesideTheNew(t *testing.T) {
	f := newFake(t, "1.44")
	always := api.RestartPolicy{Name: api.RestartPolicyAlways}
	old, next := f.exchanged(&api.HostConfig{NetworkMode: "bridge", RestartPolicy: always})
	next.State = &api.State{Running: true, Status: "running"}
	must(t, f.service(t).Recover(t.Context()))
	if old.State.Running || !next.State.Running || old.HostConfig.RestartPolicy.Name != api.RestartPolicyDisabled {
		t.Errorf("there are %q, the old one's policy is %v", f.state(), old.HostConfig.RestartPolicy)
	}
	next.State = &api.State{Status: "exited"}
	must(t, f.service(t).Recover(t.Context()))
	f.alone(t, old)
	if old.HostConfig.RestartPolicy != always {
		t.Errorf("policy %v", old.HostConfig.RestartPolicy)
	}
}

// Between the two renames nothing was stopped yet, and nothing is.
func TestRecover_stopsNothingInTheExchange(t *testing.T) {
	f := newFake(t, "1.44")
	old, next := f.exchanged(nil)
	next.Name = "/web-omahaclient-new"
	must(t, f.service(t).Recover(t.Context()))
	f.alone(t, old)
	if f.lowest == 0 {
		t.Errorf("it was stopped: %q", f.calls)
	}
}

// A new container that has proved itself is not put in doubt any more, even where the old one cannot be removed.
func TestService_provedIsProved(t *testing.T) {
	f := newFake(t, "1.44")
	f.looked = heals
	f.first(fakeCreate{})
	f.fault = func(call string) (int, string) {
		if call == "DELETE /containers/#1" {
			return 500, "device or resource busy"
		}
		return 0, ""
	}
	must(t, f.service(t).Apply(t.Context(), offer(layout(t, imageOf("2")), "2")))
	now := f.find("web")
	now.State = &api.State{Status: "exited"} // by docker stop
	must(t, f.service(t).Recover(t.Context()))
	if f.find("web") != now || now.State.Running {
		t.Errorf("there are %q", f.state())
	}
	now.State.Running = true
	must(t, f.service(t).Apply(t.Context(), offer(layout(t, imageOf("3")), "3")))
	f.fault = nil
	must(t, f.service(t).Apply(t.Context(), offer(layout(t, imageOf("4")), "4")))
	f.alone(t, f.find("web"))
}

// Where nothing can tell that it has, the update does not succeed.
func TestService_successIsDurable(t *testing.T) {
	f := newFake(t, "1.44")
	f.looked = heals
	f.first(fakeCreate{})
	f.fault = func(call string) (int, string) {
		if slices.Contains([]string{"DELETE /containers/#1", "POST /containers/#1/rename web-omahaclient-done"}, call) {
			return 500, "device or resource busy"
		}
		return 0, ""
	}
	i := layout(t, imageOf("2"))
	err := f.service(t).Apply(t.Context(), offer(i, "2"))
	if err == nil || !strings.Contains(err.Error(), "web-omahaclient-old") {
		t.Errorf("error %v", err)
	}
	f.mu.Lock() // the last try may still be under way there
	f.fault = nil
	f.mu.Unlock()
	must(t, f.service(t).Apply(t.Context(), offer(i, "2")))
	f.mu.Lock()
	now := f.find("web")
	f.mu.Unlock()
	f.alone(t, now)
	if now.Config.Labels["image"] != "2" {
		t.Errorf("there are %q", f.state())
	}
}
