package omahaclient_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// benchServer offers version 2.0.0 of each of n apps, or nothing where payload is nil.
func benchServer(b *testing.B, n int, payload []byte) (*testserver.Server, []omahaclient.Option) {
	b.Helper()
	ts := testserver.New(testserver.WithLog(0))
	opts := make([]omahaclient.Option, 0, n+2)
	for i := range n {
		id := fmt.Sprintf("io.example.App%d", i)
		g := ts.AddGroup(id, "stable", testserver.AnyArch, testserver.Policy{})
		if payload != nil {
			g.Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: payload}}})
		} else {
			g.Publish(testserver.Release{Version: "1.0.0", Files: []testserver.File{{Name: "app.bin", Content: []byte("old")}}})
		}
		opts = append(opts, omahaclient.WithApp(id, "1.0.0", omahaclient.WithChannel("stable")))
	}
	if err := ts.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(ts.Close)
	return ts, append(opts, omahaclient.WithMachineID("bench"))
}

// BenchmarkCheck measures an update check of n apps in one request, server included, beside the bare exchange: the same
// bytes posted, read and decoded.
func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("apps=%d", n), func(b *testing.B) {
			ts, opts := benchServer(b, n, nil)
			c, err := omahaclient.New(ts.URL(), append(opts, omahaclient.WithStateDir(b.TempDir()))...)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			ctx, stop := context.WithCancel(b.Context())
			updates := c.Updates(ctx)
			defer func() { stop(); <-updates }()
			if err := c.CheckNow(ctx); err != nil {
				b.Fatal(err)
			}
			base := perOp(b, func() { bareExchange(b, ts.URL(), "bench", n) })
			b.ReportAllocs()
			start := cpuTime(b)
			for b.Loop() {
				if err := c.CheckNow(ctx); err != nil {
					b.Fatal(err)
				}
			}
			ours := (cpuTime(b) - start) / time.Duration(b.N)
			b.ReportMetric(float64(ours.Microseconds())/float64(n), "cpu-µs/app")
			b.ReportMetric(float64(ours)/float64(base), "×bare")
		})
	}
}

// perOp measures the CPU time of fn, over as many calls as fit in a fifth of a second.
func perOp(b *testing.B, fn func()) time.Duration {
	b.Helper()
	fn()
	start, n := cpuTime(b), 0
	for began := time.Now(); time.Since(began) < 200*time.Millisecond; n++ {
		fn()
	}
	return (cpuTime(b) - start) / time.Duration(n)
}

// bareExchange posts a check of n apps with net/http and decodes the answer with encoding/xml.
func bareExchange(b *testing.B, endpoint, machineID string, n int) {
	b.Helper()
	var body bytes.Buffer
	body.WriteString(`<request protocol="3.0" version="bench" ismachine="1"><os platform="linux" arch="x64"></os>`)
	for i := range n {
		fmt.Fprintf(&body, `<app appid="io.example.App%d" version="1.0.0" track="stable" machineid=%q><ping active="1"></ping><updatecheck></updatecheck></app>`, i, machineID)
	}
	body.WriteString(`</request>`)
	resp, err := bare().Post(endpoint, "text/xml; charset=utf-8", &body)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Apps []struct {
			Status string `xml:"status,attr"`
			Check  struct {
				Status string `xml:"status,attr"`
			} `xml:"updatecheck"`
		} `xml:"app"`
	}
	if err := xml.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Apps) != n || answer.Apps[0].Check.Status != "noupdate" {
		b.Fatal(err, answer)
	}
}

// BenchmarkFirstOffer measures the way from CheckNow to the offer of a 1 MiB payload, beside its own bare POST and GET.
func BenchmarkFirstOffer(b *testing.B) {
	payload := bytes.Repeat([]byte("omahaclient "), 1<<20/12+1)[:1<<20]
	ts, opts := benchServer(b, 1, payload)
	url := ts.Payloads.URL() + testserver.FilePath("io.example.App0", "2.0.0", "app.bin")
	dir := b.TempDir()
	var ours, base time.Duration
	i := 0
	for b.Loop() {
		i++
		b.StopTimer()
		c, err := omahaclient.New(ts.URL(), append(opts, omahaclient.WithMachineID(fmt.Sprintf("m%d", i)),
			omahaclient.WithStateDir(filepath.Join(dir, fmt.Sprint(i))))...)
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		updates := c.Updates(ctx)

		start := time.Now()
		bareExchangeOffer(b, ts.URL())
		bareGet(b, url, filepath.Join(dir, "bare"), int64(len(payload)))
		base += time.Since(start)

		b.StartTimer()
		start = time.Now()
		if err := c.CheckNow(ctx); err != nil {
			b.Fatal(err)
		}
		offer := <-updates
		ours += time.Since(start)
		b.StopTimer()

		if err := offer.Ack(nil); err != nil {
			b.Fatal(err)
		}
		stop()
		<-updates
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(ours)/float64(base), "×bare")
	b.ReportMetric(float64((ours-base).Microseconds())/float64(b.N), "added-µs")
}

func bareExchangeOffer(b *testing.B, endpoint string) {
	b.Helper()
	body := `<request protocol="3.0" version="bench" ismachine="1"><os platform="linux" arch="x64"></os><app appid="io.example.App0" version="1.0.0" ` +
		`track="stable" machineid="bare"><ping active="1"></ping><updatecheck></updatecheck></app></request>`
	resp, err := bare().Post(endpoint, "text/xml", bytes.NewBufferString(body))
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
}

// bareGet is a download as short as it can be written: get, hash, write, sync.
func bareGet(b *testing.B, url, path string, size int64) {
	b.Helper()
	resp, err := bare().Get(url)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	h := sha1.New()
	n, err := io.Copy(io.MultiWriter(f, h), resp.Body)
	if err != nil || n != size || f.Sync() != nil || f.Close() != nil {
		b.Fatal(n, err)
	}
}

// BenchmarkIdle measures what an idle app costs, in one Client with all of them and in a Client of its own: bytes on the
// heap and the stack, goroutines, descriptors. The server has answered each, and the connections are gone, as they are 30 s later.
// It runs in this process, too; so it has met the machines before the first measurement.
func BenchmarkIdle(b *testing.B) {
	const n = 1000
	b.Run("one client", func(b *testing.B) {
		ts, opts := benchServer(b, n, nil)
		startIdle(b, ts.URL(), append(opts, omahaclient.WithStateDir(b.TempDir()))).stop()
		for b.Loop() {
			before := idleFootprint(b)
			idle := startIdle(b, ts.URL(), append(opts, omahaclient.WithStateDir(b.TempDir())))
			idleFootprint(b).report(b, before, n)
			idle.stop()
		}
	})
	b.Run("one client each", func(b *testing.B) {
		ts, opts := benchServer(b, 1, nil)
		for i := range n {
			bareExchange(b, ts.URL(), fmt.Sprintf("m%d", i), 1)
		}
		for b.Loop() {
			before := idleFootprint(b)
			idle := make([]*idleClient, n)
			dir := b.TempDir()
			for i := range idle {
				idle[i] = startIdle(b, ts.URL(), append(opts, omahaclient.WithMachineID(fmt.Sprintf("m%d", i)),
					omahaclient.WithStateDir(filepath.Join(dir, fmt.Sprint(i)))))
			}
			idleFootprint(b).report(b, before, n)
			for _, one := range idle {
				one.stop()
			}
		}
	})
}

// idleClient is a Client whose stream is open, and whose apps the server has answered: there is no update.
type idleClient struct {
	*omahaclient.Client

	updates <-chan omahaclient.UpdateOffer
	cancel  context.CancelFunc
}

func startIdle(b *testing.B, endpoint string, opts []omahaclient.Option) *idleClient {
	b.Helper()
	hc := &http.Client{Transport: &http.Transport{}}
	c, err := omahaclient.New(endpoint, append(opts, omahaclient.WithHTTPClient(hc))...)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	idle := &idleClient{c, c.Updates(ctx), cancel}
	if err := c.CheckNow(ctx); err != nil {
		b.Fatal(err)
	}
	hc.CloseIdleConnections()
	return idle
}

func (c *idleClient) stop() {
	c.cancel()
	<-c.updates
	c.Close()
}

// idleFootprint is the footprint once no connection is left, at either end.
func idleFootprint(b *testing.B) usage {
	b.Helper()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections() // bare's
	for began := time.Now(); ; runtime.Gosched() {
		var stacks bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
			b.Fatal(err)
		}
		connected := bytes.Contains(stacks.Bytes(), []byte("net/http.(*conn).serve")) || bytes.Contains(stacks.Bytes(), []byte("net/http.(*persistConn)"))
		switch {
		case !connected:
			return footprint()
		case time.Since(began) > time.Minute:
			b.Fatalf("connections are left:\n%s", &stacks)
		}
	}
}

type usage struct {
	bytes       uint64
	goroutines  int
	descriptors int
}

func footprint() usage {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{bytes: m.HeapAlloc + m.StackInuse, goroutines: runtime.NumGoroutine(), descriptors: descriptors()}
}

func (u usage) report(b *testing.B, before usage, n int) {
	b.Helper()
	b.ReportMetric((float64(u.bytes)-float64(before.bytes))/float64(n), "bytes/app")
	b.ReportMetric(float64(u.goroutines-before.goroutines), "goroutines")
	b.ReportMetric(float64(u.descriptors-before.descriptors), "descriptors")
}

// bare returns a client for the baselines; its connections live as long as the process.
func bare() *http.Client { return &http.Client{Timeout: time.Minute} }
