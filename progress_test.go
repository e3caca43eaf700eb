package omahaclient_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// tale keeps what WithProgress tells, with its time.
type tale struct {
	mu    sync.Mutex // guards told
	told  []omahaclient.Progress
	times []time.Time
}

func (p *tale) option() omahaclient.Option {
	return omahaclient.WithProgress(func(now omahaclient.Progress) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.told, p.times = append(p.told, now), append(p.times, time.Now())
	})
}

func (p *tale) of(payload string) (told []omahaclient.Progress, times []time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, now := range p.told {
		if now.Payload == payload {
			told, times = append(told, now), append(times, p.times[i])
		}
	}
	return told, times
}

// counting is a fetcher that tells of each byte, 1,000 a second.
func counting(size int64) fetcher.Fetcher {
	return fetchFunc(func(_ context.Context, job fetcher.Job) (fetcher.Payload, error) {
		for done := range size {
			time.Sleep(time.Millisecond)
			job.Progress(done+1, size)
		}
		return fetcher.Payload{Name: job.Source.Name, Path: filepath.Join(job.Dir, "x"), Size: size}, nil
	})
}

func TestWithProgress_inOrderAtMostTenASecondFirstAndLast(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.group(appA).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{
			{Name: "one", Content: []byte("1"), Size: 5000}, {Name: "two", Content: []byte("2"), Size: 5000},
		}})
		p := &tale{}
		w.updates(w.client(app(appA), p.option(), omahaclient.WithFetcher("binary", counting(5000)))).next()
		for _, payload := range []string{"one", "two"} {
			told, times := p.of(payload)
			n := len(told)
			if n < 45 || n > 52 { // five seconds
				t.Fatalf("%s: told %d times", payload, n)
			}
			want(t, "first", told[0], omahaclient.Progress{AppID: appA, Version: "2.0.0", Payload: payload, Done: 1, Total: 5000})
			want(t, "last", told[n-1], omahaclient.Progress{AppID: appA, Version: "2.0.0", Payload: payload, Done: 5000, Total: 5000, Finished: true})
			for i := 1; i < n; i++ {
				if told[i].Done < told[i-1].Done || told[i-1].Finished {
					t.Errorf("%s: %+v after %+v", payload, told[i], told[i-1])
				}
				if d := times[i].Sub(times[i-1]); d < 100*time.Millisecond && i < n-1 {
					t.Errorf("%s: told again after %v", payload, d)
				}
			}
		}
		all := p.told
		want(t, "the payloads come one after the other", all[0].Payload+all[len(all)-1].Payload, "onetwo")
	})
}

func TestWithProgress_ofARealDownload(t *testing.T) {
	for _, tc := range []struct {
		name  string
		size  int64 // announced
		total int64
	}{{"size known", 0, 70}, {"size unknown", testserver.SizeUnknown, 70}} {
		t.Run(tc.name, func(t *testing.T) {
			w := onSockets(t)
			file := testserver.File{Name: "app.bin", Content: []byte(strings.Repeat("7 bytes", 10)), Size: tc.size}
			w.group(appA).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{file}})
			p := &tale{}
			w.updates(w.client(app(appA), p.option(), quick())).next()
			told, _ := p.of("app.bin")
			last := told[len(told)-1]
			want(t, "last", last, omahaclient.Progress{AppID: appA, Version: "2.0.0", Payload: "app.bin", Done: 70, Total: tc.total, Finished: true})
			if tc.size == 0 {
				want(t, "total, from the first on", told[0].Total, 70)
			}
		})
	}
}

func TestWithProgress_ofAFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.Payloads.Fail("", -1, testserver.FileFault{Corrupt: true})
		p := &tale{}
		w.updates(w.client(app(appA), p.option()))
		w.reaches(appA, testserver.Error)
		synctest.Wait()
		told, _ := p.of("app.bin")
		last := told[len(told)-1]
		want(t, "finished", last.Finished, true)
		if !errors.Is(last.Err, fetcher.ErrDigest) {
			t.Errorf("error %v; want %v", last.Err, fetcher.ErrDigest)
		}
		for _, now := range told[:len(told)-1] {
			if now.Finished || now.Err != nil {
				t.Errorf("%+v before the last", now)
			}
		}
	})
}
