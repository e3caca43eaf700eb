package testserver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

func TestStart_servesBothHosts(t *testing.T) {
	for name, start := range map[string]func(*testserver.Server) error{
		"plain":  (*testserver.Server).Start,
		"TLS":    (*testserver.Server).StartTLS,
		"memory": func(ts *testserver.Server) error { ts.StartMemory(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			ts := testserver.New(testserver.WithSecret("s3cret"))
			ts.AddGroup(appA, "stable", testserver.AnyArch, testserver.Policy{}).
				Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "a.bin", Content: payload}}})
			if err := start(ts); err != nil {
				t.Fatal(err)
			}
			defer ts.Close()
			if !strings.HasSuffix(ts.URL(), "/v1/update/s3cret/") || strings.HasPrefix(ts.URL(), "https:") != (name == "TLS") {
				t.Errorf("URL %s", ts.URL())
			}
			client := ts.Client()
			_, body, err := post(t.Context(), client, ts.URL(), both)
			if err != nil {
				t.Fatal(err)
			}
			want := `<url codebase="` + ts.Payloads.URL() + appA + `/2.0.0/">`
			if !strings.Contains(body, want) {
				t.Errorf("answer %s, want %s", body, want)
			}
			if _, content, err := get(t.Context(), client, ts.Payloads.URL()+pathA); err != nil || len(content) != len(payload) {
				t.Errorf("payload: %d bytes, %v", len(content), err)
			}
		})
	}
}

func TestStart_onceOnly(t *testing.T) {
	ts := testserver.New()
	ts.StartMemory()
	defer ts.Close()
	defer func() {
		if recover() == nil {
			t.Error("a second start did not panic")
		}
	}()
	_ = ts.Start()
}

func TestMemory_speaksTLSToo(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		resp, _, err := post(t.Context(), client, strings.Replace(ts.URL(), "http:", "https:", 1), both)
		if err != nil || resp.TLS == nil {
			t.Fatalf("%+v, %v", resp, err)
		}
		if _, _, err := get(t.Context(), client, "https://payloads.test/"+pathA); err != nil {
			t.Error(err)
		}
		if log := ts.Payloads.Requests(); len(log) != 1 || !log[0].TLS {
			t.Errorf("logged %+v", log)
		}
	})
}

func TestMemory_answersWhatIsTooLarge(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		resp, body, err := post(t.Context(), client, ts.URL(), strings.Repeat(event(2, 1), 10_000))
		if err != nil || resp.StatusCode != http.StatusBadRequest || body != "" {
			t.Errorf("%+v %q, %v", resp, body, err)
		}
	})
}

func TestMemory_namesAndRefusals(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		var unknown *net.DNSError
		if _, _, err := get(t.Context(), client, "http://mirror.invalid/x"); !errors.As(err, &unknown) || !unknown.IsNotFound {
			t.Errorf("mirror.invalid: %v", err)
		}
		if _, _, err := get(t.Context(), client, "http://refused.test/x"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refused.test: %v", err)
		}
	})
}

func TestOffline_inMemory(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		if _, _, err := post(t.Context(), client, ts.URL(), both); err != nil {
			t.Fatal(err)
		}
		ts.Offline(true)
		synctest.Wait()
		if _, _, err := post(t.Context(), client, ts.URL(), both); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("offline: %v", err)
		}
		if _, _, err := get(t.Context(), client, ts.Payloads.URL()+pathA); err != nil {
			t.Errorf("the payload host went offline too: %v", err)
		}
		ts.Offline(false)
		if _, _, err := post(t.Context(), client, ts.URL(), both); err != nil {
			t.Errorf("online again: %v", err)
		}
	})
}

func TestOffline_resetsWhatIsUnderWay(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		ts.Payloads.Fail(pathA, 1, testserver.FileFault{Stall: true, After: 500})
		time.AfterFunc(time.Minute, func() { ts.Payloads.Offline(true) })
		if _, body, err := get(t.Context(), client, ts.Payloads.URL()+pathA); len(body) != 500 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	})
}

func TestOffline_onSockets(t *testing.T) {
	ts := testserver.New()
	if err := ts.Start(); err != nil {
		t.Fatal(err)
	}
	defer ts.Close()
	client := ts.Client()
	ts.Offline(true)
	if _, _, err := post(t.Context(), client, ts.URL(), both); err == nil {
		t.Error("an answer from an offline server")
	}
	ts.Offline(false)
	if _, _, err := post(t.Context(), client, ts.URL(), both); err != nil {
		t.Errorf("online again: %v", err)
	}
}

func TestClose_endsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := testserver.New()
		ts.StartMemory()
		ts.Fail(1, testserver.Fault{Stall: true})
		done := make(chan error, 1)
		go func() {
			_, _, err := post(t.Context(), ts.Client(), ts.URL(), both)
			done <- err
		}()
		synctest.Wait()
		ts.Close()
		if err := <-done; err == nil {
			t.Error("an answer from a closed server")
		}
		ts.Close()
		if _, _, err := post(t.Context(), ts.Client(), ts.URL(), both); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("after Close: %v", err)
		}
		if len(ts.Requests()) != 1 {
			t.Error("the log is gone")
		}
	})
}

func TestWaitFor_wakesAtChanges(t *testing.T) {
	inMemory(t, func(t *testing.T, ts *testserver.Server, client *http.Client) {
		go func() {
			time.Sleep(time.Hour)
			_, _, _ = post(t.Context(), client, ts.URL(), both)
		}()
		begun := time.Now()
		err := ts.WaitFor(t.Context(), func(ts *testserver.Server) bool {
			i, _ := ts.Instance(appA, "m1")
			return i.Status == testserver.Granted
		})
		if err != nil || time.Since(begun) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := ts.WaitFor(ctx, func(*testserver.Server) bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
	})
}

// A fleet in a bubble: what long virtual runs of the library's tests rest on.
func TestMemory_fleetForDays(t *testing.T) {
	const machines, days = 10, 6
	synctest.Test(t, func(t *testing.T) {
		ts := testserver.New(testserver.WithLog(0))
		g := ts.AddGroup(appA, "stable", testserver.AnyArch, testserver.Policy{MaxUpdates: 5, Period: time.Hour})
		ts.StartMemory()
		defer ts.Close()
		for m := range machines {
			go fleetMachine(t, ts, fmt.Sprintf("m%02d", m), days)
		}
		for day := range days {
			g.Publish(testserver.Release{Version: fmt.Sprintf("1.%d.0", day+1)})
			time.Sleep(24 * time.Hour)
		}
		for _, i := range ts.Instances(appA) {
			if i.Status != testserver.Complete || i.Version != fmt.Sprintf("1.%d.0", days) || i.Grants != days {
				t.Errorf("%+v", i)
			}
		}
	})
}

// fleetMachine checks hourly and completes what it is granted.
func fleetMachine(t *testing.T, ts *testserver.Server, id string, days int) {
	client, version := ts.Client(), "1.0.0"
	for range days*24 - 1 {
		time.Sleep(time.Hour)
		_, body, err := postAs(t.Context(), client, ts.URL(), app(appA, both, "machineid="+id, "version="+version))
		if err != nil {
			t.Errorf("%s: %v", id, err)
			return
		}
		if _, offered, found := strings.Cut(body, `<manifest version="`); found {
			version, _, _ = strings.Cut(offered, `"`)
			if _, _, err := postAs(t.Context(), client, ts.URL(), app(appA, event(3, 1), "machineid="+id)); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
}
