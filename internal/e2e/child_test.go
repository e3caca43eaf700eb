package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
)

var children = map[string]func(args []string) error{
	"serve": childServe,
	"pull":  childPull,
}

// child prepares to run one of children.
func child(tb testing.TB, name string, args ...string) (*exec.Cmd, *bufio.Reader) {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

// childServe serves the images in a folder until its standard input ends. /count says how many bytes of bodies it has sent.
func childServe(args []string) error {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	reg := testregistry.In(distribution(args[0], nil))
	mux := http.NewServeMux()
	mux.Handle("/v2/", reg)
	mux.HandleFunc("/count", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, reg.Bytes("/v2/")) })
	srv := &http.Server{Handler: mux}
	fmt.Println(l.Addr())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	srv.Close()
	<-done
	return nil
}

// childPull pulls: Dir, Shared and the reference are its arguments. It prints its progress, then its memory: the largest heap, and
// the resident size before the pull and at its peak.
func childPull(args []string) error {
	var heap uint64
	idle, calls := resident("VmRSS"), 0
	_, err := oci().Fetch(context.Background(), fetcher.Job{
		Source: fetcher.Source{Name: "app", URLs: args[2:]}, Dir: args[0], Shared: args[1],
		Progress: func(done, _ int64) {
			fmt.Println(done)
			if calls++; calls%16 == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				heap = max(heap, m.HeapInuse+m.StackInuse)
			}
		},
	})
	fmt.Println("memory", heap, idle, resident("VmHWM"))
	return err
}

// resident reads a value, in bytes, from what Linux tells of this process; 0 elsewhere.
func resident(key string) (bytes int64) {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), key+":")
	_, _ = fmt.Sscan(rest, &bytes)
	return bytes << 10
}

// server is a registry in a process of its own.
type server struct {
	tb   testing.TB
	host string
}

func startServer(tb testing.TB, dir string) *server {
	tb.Helper()
	cmd, out := child(tb, "serve", dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		stdin.Close() // it ends when nobody listens any more
		_ = cmd.Wait()
	})
	line, err := out.ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	return &server{tb, strings.TrimSpace(line)}
}

// sent is how many bytes of bodies it has sent.
func (s *server) sent() int64 {
	s.tb.Helper()
	resp, err := http.Get("http://" + s.host + "/count")
	if err != nil {
		s.tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.tb.Fatal(err)
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		s.tb.Fatal(err)
	}
	return n
}

// A process that is killed in the middle of its layers costs no more than what it had not written yet.
func TestPull_afterKill(t *testing.T) {
	s := newStore(t)
	layers := [][]byte{noise(1, 40<<20), noise(2, 40<<20), noise(3, 40<<20)}
	img := s.PushImage(repo, "linux/amd64", layers...)
	reg := startServer(t, s.dir)
	job := newJob(t, reg.host+"/"+repo+"@"+img.Manifest.Digest.String())
	var arrived int64
	for _, at := range []int64{30 << 20, 60 << 20, 100 << 20} {
		arrived = pullAndKill(t, job, at)
	}
	before := reg.sent()
	pull(t, oci(), job)
	// A buffer of 512 KiB for each of three streams, and what the kernel held, were lost: at most.
	if got, want := reg.sent()-before, img.Size()-arrived; got > want+4<<20 {
		t.Errorf("%d bytes came after the last kill, %d were missing", got, want)
	}
}

// pullAndKill kills a pull once it has that many bytes, and returns how many it had.
func pullAndKill(t *testing.T, job fetcher.Job, at int64) (arrived int64) {
	t.Helper()
	cmd, out := child(t, "pull", job.Dir, job.Shared, job.Source.URLs[0])
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Fatalf("it ended before it was killed: %s", lines.Text())
		}
		if arrived = n; n >= at {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	if _, err := os.Lstat(job.Dir + "/image/index.json"); err == nil {
		t.Error("half an image has an index.json")
	}
	return arrived
}
