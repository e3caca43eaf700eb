//go:build linux || darwin

package e2e_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2"
	oraslayout "oras.land/oras-go/v2/content/oci"
	orasremote "oras.land/oras-go/v2/registry/remote"

	"github.com/nebraska/omahaclient/internal/testregistry"
)

const layerSize = 64 << 20

// puller brings an image into a folder; a second image may go into the same one.
type puller struct {
	name          string
	pull          func(ctx context.Context, b *bench, img testregistry.Image, dir string) error
	first, second cost
}

// cost is what a run took. The registry is another process, so its CPU time is not in there.
type cost struct {
	cpu, wall time.Duration
	bytes     int64
}

// bench is a registry with two releases: 384 MiB in 6 layers, then one of the layers changed.
type bench struct {
	*server
	images [2]testregistry.Image
}

func newBench(b *testing.B) *bench {
	b.Helper()
	s := newStore(b)
	var layers [][]byte
	for i := range 6 {
		layers = append(layers, noise(byte(i), layerSize))
	}
	one := s.PushImage(repo, "linux/amd64", layers...)
	layers[5] = noise(100, layerSize)
	two := s.PushImage(repo, "linux/amd64", layers...)
	return &bench{startServer(b, s.dir), [2]testregistry.Image{one, two}}
}

func (b *bench) ref(img testregistry.Image) string {
	return b.host + "/" + repo + "@" + img.Manifest.Digest.String()
}

// BenchmarkPull_384MiB pulls 384 MiB in 6 layers and then a release with one layer changed, with us, with oras-go, with
// go-containerregistry, and with the least that could do the first: GET, hash, write and sync, two streams with buffers of 1 MiB. Goals:
// cpu/bare at most 1.05; the second release moves 64 MiB and manifests; peak memory under 32 MiB. Run it with TMPDIR on a tmpfs to
// leave the disk out of it.
func BenchmarkPull_384MiB(b *testing.B) {
	reg := newBench(b)
	pullers := []*puller{{name: "bare", pull: bare}, {name: "ours", pull: ours}, {name: "oras", pull: withOras}, {name: "ggcr", pull: withGGCR}}
	for i := 0; b.Loop(); i++ {
		for k := range pullers { // in turn, and each one first at times: the disk remembers who wrote before
			p := pullers[(k+i)%len(pullers)]
			dir := b.TempDir()
			p.first.add(b, reg, func() error { return p.pull(b.Context(), reg, reg.images[0], dir) })
			p.second.add(b, reg, func() error { return p.pull(b.Context(), reg, reg.images[1], dir) })
			if err := os.RemoveAll(dir); err != nil {
				b.Fatal(err)
			}
		}
	}
	limit := pullers[0].first
	for _, p := range pullers {
		perGiB := float64(b.N) * 6 * layerSize / (1 << 30)
		b.ReportMetric(p.first.cpu.Seconds()/perGiB, p.name+"-cpu-s/GiB")
		b.ReportMetric(float64(p.first.cpu)/float64(limit.cpu), p.name+"-cpu/bare")
		b.ReportMetric(float64(p.first.wall)/float64(limit.wall), p.name+"-wall/bare")
		b.ReportMetric(float64(p.first.bytes)/float64(b.N)/(1<<20), p.name+"-MiB")
		if p.name != "bare" {
			b.ReportMetric(float64(p.second.bytes)/float64(b.N)/(1<<20), p.name+"-2nd-MiB")
			b.ReportMetric(p.second.cpu.Seconds()/float64(b.N), p.name+"-2nd-cpu-s")
			b.ReportMetric(p.second.wall.Seconds()/float64(b.N), p.name+"-2nd-wall-s")
		}
	}
	reportMemory(b, reg)
}

func (c *cost) add(b *testing.B, reg *bench, run func() error) {
	b.Helper()
	sent, cpu, began := reg.sent(), cpuTime(b), time.Now()
	if err := run(); err != nil {
		b.Fatal(err)
	}
	c.wall += time.Since(began)
	c.cpu += cpuTime(b) - cpu
	c.bytes += reg.sent() - sent
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ours keeps its blobs beside the layouts, each of which has a folder of its own.
func ours(ctx context.Context, b *bench, img testregistry.Image, dir string) error {
	job := newJob(b.tb, b.ref(img))
	job.Dir, job.Shared = filepath.Join(dir, img.Manifest.Digest.Encoded()), filepath.Join(dir, "shared")
	_, err := oci().Fetch(ctx, job)
	return err
}

func withOras(ctx context.Context, b *bench, img testregistry.Image, dir string) error {
	to, err := oraslayout.NewWithContext(ctx, dir)
	if err != nil {
		return err
	}
	from, err := orasremote.NewRepository(b.host + "/" + repo)
	if err != nil {
		return err
	}
	from.PlainHTTP = true
	_, err = oras.Copy(ctx, from, img.Manifest.Digest.String(), to, img.Manifest.Digest.String(), oras.DefaultCopyOptions)
	return err
}

func withGGCR(ctx context.Context, b *bench, img testregistry.Image, dir string) error {
	ref, err := name.NewDigest(b.ref(img), name.Insecure)
	if err != nil {
		return err
	}
	image, err := remote.Image(ref, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	to, err := layout.FromPath(dir)
	if err != nil {
		if to, err = layout.Write(dir, empty.Index); err != nil {
			return err
		}
	}
	return to.AppendImage(image)
}

// bare is the limit: no resume, no mirrors, no retries, no watch over the reads, no layout.
func bare(ctx context.Context, b *bench, img testregistry.Image, dir string) error {
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	var group errgroup.Group
	group.SetLimit(2)
	for _, d := range append([]ocispec.Descriptor{img.Config}, img.Layers...) {
		group.Go(func() error {
			return bareFetch(ctx, tr, "http://"+b.host+"/v2/"+repo+"/blobs/"+d.Digest.String(), d.Digest.Encoded(), filepath.Join(dir, d.Digest.Encoded()))
		})
	}
	return group.Wait()
}

func bareFetch(ctx context.Context, tr *http.Transport, url, want, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
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
	buf := make([]byte, 1<<20)
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
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("got %s, want %s", got, want)
	}
	return f.Sync()
}

// reportMemory pulls once more in a process of its own and tells how large that one got.
func reportMemory(b *testing.B, reg *bench) {
	b.Helper()
	dir := b.TempDir()
	cmd, out := child(b, "pull", filepath.Join(dir, "dir"), filepath.Join(dir, "shared"), reg.ref(reg.images[0]))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var heap, idle, peak float64
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "memory "); ok {
			if _, err := fmt.Sscan(rest, &heap, &idle, &peak); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(heap/(1<<20), "ours-peak-heap-MiB")
	if peak > 0 {
		b.ReportMetric((peak-idle)/(1<<20), "ours-added-RSS-MiB")
		b.ReportMetric(peak/(1<<20), "ours-peak-RSS-MiB")
	}
}
