package download_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient/internal/download"
)

// inBubble runs a job for data at an in-memory host with default limits, in virtual time, and says how long it took.
func inBubble(t *testing.T, data []byte, script []step, change func(*download.Job), check func(t *testing.T, h *host, job download.Job, got download.Result, err error, took time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(data, script...)
		client, end := serveInMemory(h)
		defer end()
		job := newJob(t, data, "http://mirror.example/blob.bin")
		job.Client = client
		job.Limits = download.Limits{BufferSize: 1000}
		job.Progress = h.progress
		if change != nil {
			change(&job)
		}
		began := time.Now()
		got, err := download.Fetch(t.Context(), job)
		check(t, h, job, got, err, time.Since(began))
	})
}

// drip sends one byte each interval.
func drip(interval time.Duration) step {
	return func(h *host, w http.ResponseWriter, r *http.Request) {
		for _, c := range head(h, w, r) {
			if _, err := w.Write([]byte{c}); err != nil {
				return
			}
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-time.After(interval):
			case <-r.Context().Done():
				return
			}
		}
	}
}

func within(t *testing.T, took, least, most time.Duration) {
	t.Helper()
	if took < least || took > most {
		t.Errorf("took %v, want %v to %v", took, least, most)
	}
}

func TestFetch_stalledMirrorIsLeftAfter30s(t *testing.T) {
	data := blob(size)
	inBubble(t, data, []step{stall(30_000)}, nil, func(t *testing.T, h *host, job download.Job, got download.Result, err error, took time.Duration) {
		if err != nil {
			t.Fatal(err)
		}
		isFetched(t, job, got, data)
		within(t, took, 30*time.Second, 31*time.Second)
		if want := []string{"", "bytes=30000-99999"}; !slices.Equal(h.ranges(), want) {
			t.Errorf("asked for %q", h.ranges())
		}
	})
}

func TestFetch_stalledForEver(t *testing.T) {
	data := blob(size)
	for name, s := range map[string]step{"after a byte": stall(1), "before the body": stall(0)} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, data, times(99, s), nil, func(t *testing.T, h *host, _ download.Job, _ download.Result, err error, took time.Duration) {
				if !errors.Is(err, download.ErrTooSlow) {
					t.Errorf("error %v", err)
				}
				if n := len(h.requests()); n != 5 {
					t.Errorf("%d requests", n)
				}
				within(t, took, 150*time.Second, 170*time.Second)
			})
		})
	}
}

func TestFetch_noAnswer(t *testing.T) {
	data := blob(size)
	inBubble(t, data, []step{mute}, nil, func(t *testing.T, _ *host, job download.Job, got download.Result, err error, took time.Duration) {
		if err != nil {
			t.Fatal(err)
		}
		isFetched(t, job, got, data)
		within(t, took, 60*time.Second, 61*time.Second)
	})
}

func TestFetch_underTheFloorRate(t *testing.T) {
	data := blob(size)
	inBubble(t, data, times(99, drip(time.Second)), nil, func(t *testing.T, h *host, job download.Job, _ download.Result, err error, took time.Duration) {
		if !errors.Is(err, download.ErrTooSlow) {
			t.Errorf("error %v", err)
		}
		if n := len(h.requests()); n != 5 {
			t.Errorf("%d requests: the bytes of a mirror that is too slow do not reset the count", n)
		}
		within(t, took, 450*time.Second, 500*time.Second)
		if fi, err := job.Root.Stat(download.PartialName(job)); err != nil || fi.Size() < 400 {
			t.Errorf("what came was not kept: %v, %v", fi, err)
		}
	})
}

func TestFetch_slowButFastEnough(t *testing.T) {
	data := blob(2000)
	for name, change := range map[string]func(*download.Job){
		"above the floor":  func(*download.Job) {},
		"no floor":         func(j *download.Job) { j.Limits.MinSpeed = -1 },
		"just not stalled": func(j *download.Job) { j.Limits.StallTimeout = 100 * time.Millisecond },
	} {
		interval := 90 * time.Millisecond
		if name == "no floor" {
			interval = 20 * time.Second
		}
		t.Run(name, func(t *testing.T) {
			inBubble(t, data, []step{drip(interval)}, change, func(t *testing.T, h *host, job download.Job, got download.Result, err error, _ time.Duration) {
				if err != nil {
					t.Fatal(err)
				}
				isFetched(t, job, got, data)
				if n := len(h.requests()); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// A slow transfer is written each second, so that little is lost when the process dies.
func TestFetch_slowTransferIsWrittenSoon(t *testing.T) {
	data := blob(300)
	var last, longest time.Duration
	inBubble(t, data, []step{drip(50 * time.Millisecond)}, func(j *download.Job) {
		began := time.Now()
		j.Progress = func(int64, int64) {
			now := time.Since(began)
			longest, last = max(longest, now-last), now
		}
	}, func(t *testing.T, _ *host, _ download.Job, _ download.Result, err error, _ time.Duration) {
		if err != nil || longest > 1100*time.Millisecond {
			t.Errorf("longest time between writes %v, %v", longest, err)
		}
	})
}

func TestFetch_byteAfterByteEnds(t *testing.T) {
	data := blob(size)
	inBubble(t, data, times(9999, cut(1)), nil, func(t *testing.T, h *host, _ download.Job, _ download.Result, err error, _ time.Duration) {
		if err == nil || len(h.requests()) > 200 {
			t.Errorf("%d requests, %v", len(h.requests()), err)
		}
	})
}

func TestFetch_slowDiskIsNotTheMirrorsFault(t *testing.T) {
	data := blob(10_000)
	slow := func(f *os.File, p []byte, off int64) (int, error) {
		time.Sleep(2 * time.Minute)
		return f.WriteAt(p, off)
	}
	inBubble(t, data, nil, func(j *download.Job) { *j = download.WithWrite(*j, slow) }, func(t *testing.T, h *host, job download.Job, got download.Result, err error, _ time.Duration) {
		if err != nil {
			t.Fatal(err)
		}
		isFetched(t, job, got, data)
		if n := len(h.requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestFetch_retryAfter(t *testing.T) {
	data := blob(size)
	inTwoMinutes := func(h *host, w http.ResponseWriter, r *http.Request) {
		status(503, "Retry-After", time.Now().Add(2*time.Minute).UTC().Format(http.TimeFormat))(h, w, r)
	}
	for _, tt := range []struct {
		name        string
		script      []step
		least, most time.Duration
		requests    int
		fails       bool
	}{
		{"seconds", []step{status(429, "Retry-After", "77")}, 77 * time.Second, 78 * time.Second, 2, false},
		{"date", []step{inTwoMinutes}, 119 * time.Second, 121 * time.Second, 2, false},
		{"in the past", []step{status(503, "Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")}, 250 * time.Millisecond, time.Second, 2, false},
		{"too long", []step{status(503, "Retry-After", "3600")}, 0, time.Millisecond, 1, true},
		{"endless", []step{status(503, "Retry-After", "99999999999999999999")}, 0, time.Second, 2, false},
		{"always", times(99, status(503, "Retry-After", "100")), 400 * time.Second, 401 * time.Second, 5, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, data, tt.script, nil, func(t *testing.T, h *host, _ download.Job, _ download.Result, err error, took time.Duration) {
				if (err != nil) != tt.fails {
					t.Errorf("error %v", err)
				}
				within(t, took, tt.least, tt.most)
				if n := len(h.requests()); n != tt.requests {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

func TestFetch_waitsLongerEachTime(t *testing.T) {
	data := blob(size)
	inBubble(t, data, times(4, status(500)), nil, func(t *testing.T, _ *host, _ download.Job, _ download.Result, err error, took time.Duration) {
		if err != nil {
			t.Fatal(err)
		}
		within(t, took, 3750*time.Millisecond, 11_250*time.Millisecond) // 0.5 + 1 + 2 + 4 s, ± 50 %
	})
}

func TestFetch_waitsNoLongerWhileBytesCome(t *testing.T) {
	data := blob(size)
	inBubble(t, data, times(20, cut(4000)), nil, func(t *testing.T, h *host, _ download.Job, _ download.Result, err error, took time.Duration) {
		if n := len(h.requests()); err != nil || n != 21 {
			t.Errorf("%d requests, %v", n, err)
		}
		within(t, took, 5*time.Second, 15*time.Second) // 20 waits of 0.5 s, ± 50 %
	})
}

func TestFetch_givesUpInTime(t *testing.T) {
	data := blob(size)
	inBubble(t, data, times(9999, status(500)), func(j *download.Job) { j.Limits.Tries = 9999 }, func(t *testing.T, _ *host, _ download.Job, _ download.Result, err error, took time.Duration) {
		if err == nil {
			t.Error("no error")
		}
		within(t, took, 14*time.Minute, 16*time.Minute)
	})
}

// A mirror's time does not run while another one is at work.
func TestFetch_secondMirrorHasTimeOfItsOwn(t *testing.T) {
	data := blob(2000)
	script := slices.Concat([]step{drip(time.Second)}, times(4, status(500))) // 2,000 s, then four passing failures
	inBubble(t, data, script, func(j *download.Job) {
		j.URLs = append(j.URLs, "http://other.example/blob.bin")
		j.SHA256 = make([]byte, 32)
		j.Limits.MinSpeed = -1
	}, func(t *testing.T, h *host, _ download.Job, _ download.Result, err error, _ time.Duration) {
		n := 0
		for _, r := range h.requests() {
			if r.Host == "other.example" {
				n++
			}
		}
		if !errors.Is(err, download.ErrDigest) || n != 5 {
			t.Errorf("%d requests, %v", n, err)
		}
	})
}

func TestFetch_cancelWhileWaiting(t *testing.T) {
	data := blob(size)
	synctest.Test(t, func(t *testing.T) {
		client, end := serveInMemory(newHost(data, times(99, status(503, "Retry-After", "200"))...))
		defer end()
		job := newJob(t, data, "http://mirror.example/")
		job.Client = client
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := download.Fetch(ctx, job); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 100*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
