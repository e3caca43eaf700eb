package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/apply/container"
)

func init() { children["apply"] = child } //nolint:gochecknoinits // before TestMain

// child applies one image. Its arguments are the engine's address, the image's layout, digest and version, the folder of
// the container's socket, and the number of the engine's change after which it dies; "stop": while the old one stops.
func child(args []string) error {
	calls := 0
	dies := func(r *http.Request) error {
		if args[5] == "stop" && strings.HasSuffix(r.URL.Path, "/stop") {
			time.AfterFunc(time.Second/2, func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) })
		}
		return nil
	}
	c, err := client.New(client.WithHost(args[0]), client.WithHTTPRequestHook(dies), client.WithHTTPResponseHook(func(r *http.Response) {
		if r.Request.Method == http.MethodGet || r.Request.Method == http.MethodHead {
			return
		}
		if calls++; strconv.Itoa(calls) == args[5] {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}))
	if err != nil {
		return err
	}
	defer c.Close()
	return service(c, answers(args[4], args[3])).Apply(context.Background(), offer(image{args[1], args[2]}, args[3]))
}

func service(c *client.Client, p apply.Probe) container.Service {
	return container.Service{Name: "web", Client: c, Probe: p, Stays: 10 * time.Millisecond, Stop: 2 * time.Second}
}

// answers is well when the container of this version answers, with its own environment and data.
func answers(data, version string) apply.Probe {
	return apply.ProbeFunc(func(ctx context.Context) error {
		transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(data, "socket-"+version))
		}}
		hc := &http.Client{Transport: transport, Timeout: 5 * time.Second}
		var last error
		for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit) && ctx.Err() == nil; {
			resp, err := hc.Get("http://web/")
			if err == nil {
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if want := version + " mine kept"; err != nil || string(text) != want {
					return fmt.Errorf("answer %q, %w; want %q", text, err, want)
				}
				return nil
			}
			last = err
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return last
	})
}

func TestService(t *testing.T) {
	if !ready(t) {
		return
	}
	_, c := podman(t)
	web := program(t)
	data := first(t, c, build(t, web, "1.0.0"), "1.0.0")
	sick := apply.ProbeFunc(func(context.Context) error { return errors.New("sick") })

	must(t, service(c, answers(data, "2.0.0")).Apply(t.Context(), offer(build(t, web, "2.0.0"), "2.0.0")))
	now := only(t, c)
	if l := now.Config.Labels; l["owner"] != "me" || l["image"] != "2.0.0" {
		t.Errorf("labels %v", l)
	}
	for _, tc := range []struct {
		name, version string
		env           []string
		probe         apply.Probe
		ctx           func() context.Context
		code          int
	}{
		{"crashes", "3.0.0", []string{"BEHAVIOUR=crash"}, nil, t.Context, 44},
		{"is not well", "4.0.0", nil, sick, t.Context, 44},
		{"interrupted", "5.0.0", nil, apply.ProbeFunc(func(ctx context.Context) error { return context.Canceled }), func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			t.Cleanup(cancel)
			return ctx
		}, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := service(c, tc.probe).Apply(tc.ctx(), offer(build(t, web, tc.version, tc.env...), tc.version))
			if err == nil || tc.code >= 0 && code(err) != tc.code {
				t.Errorf("error %v, code %d; want %d", err, code(err), tc.code)
			}
			must(t, answers(data, "2.0.0").Probe(t.Context()))
			if id := only(t, c).ID; id != now.ID {
				t.Errorf("container %s; want %s", id, now.ID)
			}
		})
	}
	err := container.Service{Name: "other", Client: c}.Apply(t.Context(), offer(build(t, web, "2.0.0"), "2.0.0"))
	if code(err) != 5 || !strings.Contains(fmt.Sprint(err), "no such container") {
		t.Errorf("error %v", err)
	}
}

// The engine goes on with a stop when who asked for it was killed.
func TestCrash_ServiceWhileTheOldOneStops(t *testing.T) {
	if !ready(t) {
		return
	}
	address, c := podman(t)
	web := program(t)
	data := first(t, c, build(t, web, "1.0.0", "BEHAVIOUR=stay"), "1.0.0")
	old, second := only(t, c).ID, build(t, web, "2.0.0")
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, address, second.layout, second.digest, "2.0.0", data, "stop")
	cmd.Env = append(os.Environ(), childEnv+"=apply")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() >= 0 {
		t.Fatalf("it was not killed: %v: %s", err, out)
	}
	must(t, service(c, nil).Recover(t.Context()))
	if id := only(t, c).ID; id != old {
		t.Errorf("container %s; want %s", id, old)
	}
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for range 30 { // beyond the end of a stop that is still under way
		<-look.C
		only(t, c)
	}
	must(t, answers(data, "1.0.0").Probe(t.Context()))
	must(t, service(c, answers(data, "2.0.0")).Apply(t.Context(), offer(second, "2.0.0")))
	only(t, c)
}

func TestCrash_Service(t *testing.T) {
	if !ready(t) {
		return
	}
	address, c := podman(t)
	web := program(t)
	images := map[string]image{}
	for _, version := range []string{"1.0.0", "2.0.0"} {
		images[version] = build(t, web, version)
	}
	data := first(t, c, images["1.0.0"], "1.0.0")
	kills := 14
	if text := os.Getenv("OMAHACLIENT_CRASH_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		must(t, err)
		kills = max(n/10, 1) // an engine takes its time
	}
	self, err := os.Executable()
	must(t, err)
	current, next := "1.0.0", "2.0.0"
	typical, updates, down := 2*time.Second, 0, 0
	for n := range kills {
		after := n%11 + 1 // there are eight changes in an update
		if n > 11 {
			after = 0 // at random
		}
		cmd := exec.Command(self, address, images[next].layout, images[next].digest, next, data, strconv.Itoa(after))
		cmd.Env = append(os.Environ(), childEnv+"=apply")
		var out bytes.Buffer
		cmd.Stderr = &out
		must(t, cmd.Start())
		started := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		killed := true
		select {
		case err := <-ended:
			if killed = cmd.ProcessState.ExitCode() < 0; !killed {
				must(t, errors.Join(err, ctxError(out.String(), err)))
				typical = time.Since(started)
			}
		case <-moment(after, typical):
			cmd.Process.Kill()
			<-ended
			typical += typical / 20
		}
		if killed {
			there := 0
			for _, name := range []string{"web", "web-omahaclient-old", "web-omahaclient-new"} {
				if _, err := c.ContainerInspect(t.Context(), name, client.ContainerInspectOptions{}); err == nil {
					there++
				}
			}
			if there == 0 {
				t.Fatalf("kill %d: no container is left", n)
			}
			r, err := c.ContainerInspect(t.Context(), "web", client.ContainerInspectOptions{})
			if err != nil || !r.Container.State.Running {
				down++
			}
			must(t, service(c, nil).Recover(t.Context()))
			must(t, either(t, answers(data, current), answers(data, next)))
			continue
		}
		must(t, answers(data, next).Probe(t.Context()))
		only(t, c)
		updates++
		current, next = next, current
	}
	must(t, service(c, answers(data, next)).Apply(t.Context(), offer(images[next], next))) // the next start settles it
	must(t, answers(data, next).Probe(t.Context()))
	only(t, c)
	t.Logf("%d kills, %d updates, %d times neither ran at the kill", kills, updates, down)
}

// either waits until one of two probes is well.
func either(t *testing.T, a, b apply.Probe) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results := make(chan error, 2)
	for _, p := range []apply.Probe{a, b} {
		go func() { results <- p.Probe(ctx) }()
	}
	first := <-results
	if first == nil {
		cancel()
	}
	second := <-results
	if first == nil || second == nil {
		return nil
	}
	return errors.Join(first, second)
}

// moment is some time within a typical update; never for one that dies at a call.
func moment(after int, typical time.Duration) <-chan time.Time {
	if after > 0 {
		return nil
	}
	return time.After(rand.N(typical))
}

func ctxError(out string, err error) error {
	if err == nil {
		return nil
	}
	return errors.New(out)
}

// On a disk that is full, whatever is left of it, the old container goes on; with room again, the update comes.
func TestService_diskFull(t *testing.T) {
	if !ready(t) {
		return
	}
	dir, err := os.MkdirTemp("", "omahad") //nolint:usetesting // short, for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"))
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	_, c := podmanIn(t, filepath.Join(dir, "p"))
	web := program(t)
	data := first(t, c, build(t, web, "1.0.0"), "1.0.0")
	id := only(t, c).ID
	second := build(t, web, "2.0.0")
	failed := 0
	for _, left := range []int64{0, 64 << 10, int64(len(web)) / 2, int64(len(web)) * 3 / 2, int64(len(web)) * 5 / 2} {
		filler := filepath.Join(dir, "filler")
		fill(t, filler, dir, left)
		err := service(c, answers(data, "2.0.0")).Apply(t.Context(), offer(second, "2.0.0"))
		must(t, os.Remove(filler))
		if err == nil {
			must(t, answers(data, "2.0.0").Probe(t.Context()))
			break
		}
		failed++
		if code(err) != 5 && code(err) != 44 {
			t.Errorf("%d bytes left: code %d: %v", left, code(err), err)
		}
		t.Logf("%d bytes left: code %d: %.200v", left, code(err), err)
		must(t, answers(data, "1.0.0").Probe(t.Context()))
		if now := only(t, c).ID; now != id {
			t.Errorf("%d bytes left: container %s; want %s", left, now, id)
		}
	}
	if failed < 3 {
		t.Errorf("%d sizes were too small; want 3 at least", failed)
	}
	must(t, service(c, answers(data, "2.0.0")).Apply(t.Context(), offer(second, "2.0.0")))
	only(t, c)
}

// fill leaves some bytes of a disk.
func fill(t *testing.T, file, disk string, left int64) {
	t.Helper()
	var s syscall.Statfs_t
	must(t, syscall.Statfs(disk, &s))
	f, err := os.Create(file)
	must(t, err)
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for n := int64(s.Bavail)*s.Bsize - left; n > 0; n -= int64(len(chunk)) {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			return
		}
	}
}
