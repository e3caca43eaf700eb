//go:build linux || darwin

package fetcher_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
)

const (
	benchSize   = 512 << 20
	benchBuffer = 512 << 10 // the engine's default
)

// BenchmarkHTTP_512MiB fetches 512 MiB over loopback from a server in another process, beside the least that could do the same: GET,
// hash and write with the same buffer, then sync. The figures are each one's best run, since the machine may do other things
// meanwhile. Goals: cpu/bare and wall/bare at most 1.05; wall/curl at most 1 although curl
// neither hashes nor syncs (curl and sha256sum after it hash, and do not sync); peak memory under 16 MiB. Run it with TMPDIR on a tmpfs to leave the disk out of it.
func BenchmarkHTTP_512MiB(b *testing.B) {
	url, sum := benchServer(b)
	job := fetcher.Job{
		Source:   fetcher.Source{Name: "blob", URLs: []string{url}, Size: benchSize, SHA256: sum},
		Progress: func(int64, int64) {},
	}
	runs := []struct {
		name string
		run  func(dir string) error
		best cost
	}{
		{name: "bare", run: func(dir string) error { return bareFetch(b.Context(), url, sum, filepath.Join(dir, "blob")) }},
		{name: "ours", run: func(dir string) error {
			job.Dir = dir
			_, err := fetcher.HTTP{}.Fetch(b.Context(), job)
			return err
		}},
		{name: "curl", run: func(dir string) error { return curl(b, url, dir) }},
		{name: "curl+sha256sum", run: func(dir string) error {
			if err := curl(b, url, dir); err != nil {
				return err
			}
			check := exec.CommandContext(b.Context(), "sha256sum", "--status", "-c", "-")
			check.Stdin = strings.NewReader(hex.EncodeToString(sum) + "  " + filepath.Join(dir, "blob") + "\n")
			return check.Run()
		}},
	}
	for i, tool := range []string{"curl", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Logf("no %s here to compare with", tool)
			runs = runs[:2+i]
			break
		}
	}
	b.ReportAllocs()
	b.SetBytes(benchSize * int64(len(runs)))
	for i := 0; b.Loop(); i++ {
		for k := range runs { // each one first at times, and after each other one: the disk remembers who wrote before
			if i%2 == 1 {
				k = len(runs) - 1 - k
			}
			r := &runs[(k+i)%len(runs)]
			dir := b.TempDir()
			before := now(b)
			if err := r.run(dir); err != nil {
				b.Fatal(r.name, err)
			}
			r.best = r.best.least(now(b).minus(before))
			if err := os.RemoveAll(dir); err != nil {
				b.Fatal(err)
			}
		}
	}
	const perGiB = float64(benchSize) / (1 << 30)
	for _, r := range runs {
		b.ReportMetric(r.best.cpu.Seconds()/perGiB, r.name+"-cpu-s/GiB")
		b.ReportMetric(r.best.wall.Seconds()/perGiB, r.name+"-wall-s/GiB")
	}
	b.ReportMetric(ratio(runs[1].best.cpu, runs[0].best.cpu), "cpu/bare")
	b.ReportMetric(ratio(runs[1].best.wall, runs[0].best.wall), "wall/bare")
	for _, r := range runs[2:] {
		b.ReportMetric(ratio(runs[1].best.cpu, r.best.cpu), "cpu/"+r.name)
		b.ReportMetric(ratio(runs[1].best.wall, r.best.wall), "wall/"+r.name)
	}
	reportMemory(b, url, sum)
}

func curl(b *testing.B, url, dir string) error {
	b.Helper()
	return exec.CommandContext(b.Context(), "curl", "-sf", "-o", filepath.Join(dir, "blob"), url).Run()
}

// cost is what a run took: of this process and of those it has waited for. The server runs on, so it is not in there.
type cost struct{ cpu, wall time.Duration }

func now(b *testing.B) cost {
	b.Helper()
	c := cost{wall: time.Duration(time.Now().UnixNano())}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		c.cpu += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return c
}

func (c cost) minus(o cost) cost { return cost{c.cpu - o.cpu, c.wall - o.wall} }

// least is the better of both in each respect; the zero cost is none yet.
func (c cost) least(o cost) cost {
	if c == (cost{}) {
		return o
	}
	return cost{min(c.cpu, o.cpu), min(c.wall, o.wall)}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// bareFetch is the limit: no resume, no mirrors, no watch over the reads.
func bareFetch(ctx context.Context, url string, want []byte, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, benchBuffer)
	for {
		n, err := io.ReadFull(resp.Body, buf)
		h.Write(buf[:n])
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if hex.EncodeToString(h.Sum(nil)) != hex.EncodeToString(want) {
		return errors.New("wrong digest")
	}
	return f.Sync()
}

// benchServer starts a server in a process of its own, whose CPU time is not counted, and returns its file's URL and hash.
func benchServer(b *testing.B) (url string, sum []byte) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "served")
	sum = writeRandom(b, path)
	cmd, out := benchChild(b, "serve", path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close() // it ends when nobody listens any more
		_ = cmd.Wait()
	})
	line, err := out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line), sum
}

func writeRandom(b *testing.B, path string) []byte {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, h), rand.NewChaCha8([32]byte{}), benchSize); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	return h.Sum(nil)
}

func benchChild(b *testing.B, args ...string) (*exec.Cmd, *bufio.Reader) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), self, args...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

// reportMemory fetches once more in a process of its own and tells how large that one got.
func reportMemory(b *testing.B, url string, sum []byte) {
	b.Helper()
	cmd, out := benchChild(b, "fetch", url, hex.EncodeToString(sum), b.TempDir())
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var heap, idle, peak float64
	if _, err := fmt.Fscan(out, &heap, &idle, &peak); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(heap/(1<<20), "peak-heap-MiB")
	if peak > 0 {
		b.ReportMetric((peak-idle)/(1<<20), "added-RSS-MiB")
		b.ReportMetric(peak/(1<<20), "peak-RSS-MiB")
	}
}

const childEnv = "FETCHER_TEST_CHILD"

// childMain is what the processes of benchChild run.
func childMain(args []string) error {
	if args[0] == "serve" {
		return childServe(args[1])
	}
	sum, err := hex.DecodeString(args[2])
	if err != nil {
		return err
	}
	var heap uint64
	chunks := 0
	idle := rss("VmRSS")
	_, err = fetcher.HTTP{}.Fetch(context.Background(), fetcher.Job{
		Source: fetcher.Source{Name: "blob", URLs: args[1:2], Size: benchSize, SHA256: sum},
		Dir:    args[3],
		Progress: func(int64, int64) {
			if chunks++; chunks%16 == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				heap = max(heap, m.HeapInuse+m.StackInuse)
			}
		},
	})
	fmt.Println(heap, idle, rss("VmHWM"))
	return err
}

// childServe serves one file until its standard input ends.
func childServe(path string) error {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })}
	fmt.Printf("http://%s/blob\n", l.Addr())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	srv.Close()
	<-done
	return nil
}

// rss reads a value, in bytes, from what Linux tells of this process; 0 elsewhere.
func rss(key string) (bytes int64) {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), key+":")
	_, _ = fmt.Sscan(rest, &bytes)
	return bytes << 10
}
