package omahaclient_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// Several apps in one Client.

func TestApps_dueTogetherShareARequest(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var opts []omahaclient.Option
		for i := range 10 {
			id := fmt.Sprintf("io.example.app%d", i)
			w.offering(id, "1.0.0")
			opts = append(opts, app(id))
		}
		c := w.client(opts...)
		s := w.updates(c)
		s.silent(7 * 24 * time.Hour)
		for _, r := range w.Requests() {
			want(t, "apps in a request", len(r.Apps), 10)
		}
		wantSchedule(t, w.checks("io.example.app3"), w.Requests()[0].Time, 45*time.Minute, 90*time.Minute)
		must(t, c.CheckNow(t.Context(), "io.example.app3")) // gets out of step
		s.silent(24 * time.Hour)
		all := w.Requests()
		want(t, "apps in the last request", len(all[len(all)-1].Apps), 10) // and in again
	})
}

func TestApps_unknownOneHarmsNoOther(t *testing.T) {
	for _, place := range []int{0, 2, 4} {
		t.Run(fmt.Sprint("number ", place), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var opts []omahaclient.Option
				for i := range 5 {
					id := fmt.Sprintf("io.example.app%d", i)
					if i != place {
						w.offering(id, "2.0.0")
					}
					opts = append(opts, app(id))
				}
				s := w.updates(w.client(opts...))
				start := time.Now()
				for range 4 { // the others get their updates with the first check
					must(t, s.next().Ack(nil))
				}
				if took := time.Since(start); took > 16*time.Minute {
					t.Errorf("it took %v", took)
				}
				time.Sleep(5 * time.Hour)
				from := len(w.Requests())
				time.Sleep(24 * time.Hour)
				for _, r := range w.Requests()[from:] { // and it stays out of their requests
					if n := len(r.Apps); n != 1 && n != 4 {
						t.Errorf("%d apps in a request", n)
					}
				}
			})
		})
	}
}

// An app that the server comes to know rides with the others again.
func TestApps_unknownOneIsFoundLater(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appB, "1.0.0")
		s := w.updates(w.client(app(appA), app(appB)))
		s.silent(5 * time.Hour)
		w.offering(appA, "2.0.0")
		must(t, s.next().Ack(nil))
		time.Sleep(5 * time.Hour)
		all := w.Requests()
		want(t, "apps in the last request", len(all[len(all)-1].Apps), 2)
	})
}

func TestApps_requestsStayBelow64KiB(t *testing.T) {
	const n = 700
	id := func(i int) string { return fmt.Sprintf("io.example.%s%03d", strings.Repeat("x", 80), i) }
	inBubble(t, func(t *testing.T, w *world) {
		var opts []omahaclient.Option
		for i := range n {
			w.offering(id(i), "1.0.0")
			opts = append(opts, app(id(i)))
		}
		s := w.updates(w.client(opts...))
		s.silent(15 * time.Minute)
		apps := 0
		for _, r := range w.Requests() {
			apps += len(r.Apps)
			want(t, "status of the answer", r.Status, 200)
			if len(r.Body) > 64<<10 {
				t.Errorf("a request of %d bytes", len(r.Body))
			}
		}
		want(t, "apps that asked", apps, n)
		if requests := len(w.Requests()); requests < 2 || requests > 5 {
			t.Errorf("%d requests; want a few", requests)
		}
	})
}

func TestApps_samePayloadIsFetchedOnce(t *testing.T) {
	file := testserver.File{Name: "shared.bin", Content: []byte(strings.Repeat("shared ", 1000))}
	for _, tc := range []struct {
		name    string
		between time.Duration // B's release comes later
	}{
		{"at the same time", 0},
		{"one after the other", 3 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				a, b := w.group(appA), w.group(appB)
				w.Payloads.Fail("", -1, testserver.FileFault{Delay: time.Second}) // so that they meet
				s := w.updates(w.client(app(appA), app(appB)))
				r := testserver.Release{Version: "2.0.0", Files: []testserver.File{file}}
				var offers []omahaclient.UpdateOffer
				a.Publish(r)
				if tc.between > 0 {
					offers = append(offers, s.next())
					time.Sleep(tc.between)
				}
				b.Publish(r)
				for len(offers) < 2 {
					offers = append(offers, s.next())
				}
				want(t, "downloads", w.Payloads.Stats("").Requests, 1)
				if offers[0].Payloads[0].Path == offers[1].Payloads[0].Path {
					t.Error("the apps share a file: the first one's program may move it")
				}
				for _, o := range offers {
					wantFile(t, o.Payloads[0].Path, file.Content)
					must(t, o.Ack(nil))
				}
				synctest.Wait()
				for _, id := range []string{appA, appB} {
					want(t, "history", w.history(id), "granted, downloading, downloaded, complete")
				}
			})
		})
	}
}

// Each app has addresses of its own: where the one that fetches for both fails, the other one tries for itself.
func TestApps_samePayloadFailureIsNotShared(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		file := testserver.File{Name: "shared.bin", Content: []byte(strings.Repeat("shared ", 1000))}
		for _, id := range []string{appA, appB} {
			w.group(id).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{file}})
		}
		var mu sync.Mutex
		bad := "" // the first one's file
		w.Payloads.FailFunc(func(r testserver.FileRequest) testserver.FileFault {
			mu.Lock()
			defer mu.Unlock()
			if bad == "" {
				bad = r.Path
			}
			return testserver.FileFault{Delay: time.Second, Corrupt: r.Path == bad}
		})
		s := w.updates(w.client(app(appA), app(appB)))
		o := s.next()
		wantFile(t, o.Payloads[0].Path, file.Content)
		synctest.Wait()
		want(t, "history", w.history(o.AppID), "granted, downloading, downloaded")
		other := appA
		if o.AppID == appA {
			other = appB
		}
		want(t, "history of the first", w.history(other), "granted, downloading, error 10")
	})
}

func TestWithWorkers_boundsFetches(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts []omahaclient.Option
		most int
	}{
		{"default", nil, 4},
		{"one", []omahaclient.Option{omahaclient.WithWorkers(1)}, 1},
		{"two", []omahaclient.Option{omahaclient.WithWorkers(2)}, 2},
		{"more than apps", []omahaclient.Option{omahaclient.WithWorkers(50)}, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var mu sync.Mutex
				now, most := 0, 0
				count := func(d int) {
					mu.Lock()
					defer mu.Unlock()
					now += d
					most = max(most, now)
				}
				slow := fetchFunc(func(ctx context.Context, job fetcher.Job) (fetcher.Payload, error) {
					count(1)
					defer count(-1)
					time.Sleep(time.Minute)
					return fetchedFromMemory().Fetch(ctx, job)
				})
				opts := slices.Concat(tc.opts, []omahaclient.Option{omahaclient.WithFetcher("binary", slow)})
				for i := range 8 {
					id := fmt.Sprintf("io.example.app%d", i)
					w.offering(id, "2.0.0")
					opts = append(opts, app(id))
				}
				s := w.updates(w.client(opts...))
				for range 8 {
					must(t, s.next().Ack(nil))
				}
				want(t, "fetches at the same time", most, tc.most)
			})
		})
	}
}

// One failing, one slow: the third does not notice.
func TestApps_areIndependent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, id := range []string{appA, appB, appC} {
			w.offering(id, "2.0.0")
		}
		w.Payloads.Fail(fileOf(appA, "2.0.0"), -1, testserver.FileFault{Corrupt: true})
		w.Payloads.Fail(fileOf(appB, "2.0.0"), -1, testserver.FileFault{Delay: 20 * time.Second, Stall: true})
		s := w.updates(w.client(app(appA), app(appB), app(appC)))
		start := time.Now()
		o := s.next()
		want(t, "app", o.AppID, appC)
		must(t, o.Ack(nil))
		w.reaches(appC, testserver.Complete)
		if took := time.Since(start); took > 15*time.Minute+time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// An app's payloads lie in folders of its own, all below the state directory.
func TestApps_haveFoldersOfTheirOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		files := []testserver.File{{Name: "same.bin", Content: []byte("one")}, {Name: "same.bin", Content: []byte("two")}}
		w.group(appA).Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{files[1], {Name: "same.bin", Content: []byte("two")}}})
		w.group(appB).Publish(testserver.Release{Version: "2.0.0", Files: files[:1]})
		s := w.updates(w.client(app(appA), app(appB)))
		seen := map[string]bool{}
		for range 2 {
			for _, p := range s.next().Payloads {
				if rel, err := filepath.Rel(w.dir, p.Path); err != nil || !filepath.IsLocal(rel) {
					t.Errorf("%s is not below %s", p.Path, w.dir)
				}
				seen[p.Path] = true
			}
		}
		want(t, "files", len(seen), 3)
	})
}
