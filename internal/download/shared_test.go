package download_test

import (
	"errors"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/download"
)

func newRoot(t *testing.T) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// transport fails as its caller wants.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFinal_endsTheMirror(t *testing.T) {
	data := blob(size)
	refused := errors.New("no entry")
	calls := 0
	job := newJob(t, data, "http://127.0.0.1:9/blob.bin")
	job.Client = &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
		calls++
		return nil, download.Final(refused)
	})}
	_, err := download.Fetch(t.Context(), job)
	if !errors.Is(err, refused) {
		t.Error(err)
	}
	if calls != 1 {
		t.Errorf("asked %d times", calls)
	}
}

func TestFetch_secondOneIsBusy(t *testing.T) {
	data := blob(size)
	second := make(chan struct{})
	h := newHost(data, func(h *host, w http.ResponseWriter, r *http.Request) {
		rest := head(h, w, r)
		_, _ = w.Write(rest[:10])
		_ = http.NewResponseController(w).Flush()
		<-second
		_, _ = w.Write(rest[10:])
	})
	job := newJob(t, data, h.serve(t))
	first := make(chan error, 1)
	go func() {
		job := job
		job.Progress = h.progress
		job.Limits.BufferSize = 10
		_, err := download.Fetch(t.Context(), job)
		first <- err
	}()
	h.reached(10)
	if _, err := download.Fetch(t.Context(), job); !errors.Is(err, download.ErrBusy) {
		t.Error(err)
	}
	close(second)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestRoom(t *testing.T) {
	root := newRoot(t)
	if err := download.Room(root, 1); err != nil {
		t.Error(err)
	}
	if err := download.Room(root, math.MaxInt64); !errors.Is(err, download.ErrNoSpace) || !strings.Contains(err.Error(), root.Name()) {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	root := newRoot(t)
	unlock, err := download.Lock(root, "lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := download.Lock(root, "lock"); !errors.Is(err, download.ErrBusy) {
		t.Error(err)
	}
	unlock()
	unlock, err = download.Lock(root, "lock")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestPresent(t *testing.T) {
	root := newRoot(t)
	for name, want := range map[string]int64{"none": 0, "finished": 3, "begun": 2} {
		if err := errors.Join(root.WriteFile("finished", []byte("abc"), 0o600), root.WriteFile("sha256-77.partial", []byte("ab"), 0o600)); err != nil {
			t.Fatal(err)
		}
		sum := "00"
		if name == "begun" {
			sum = "77"
		}
		if got := download.Present(root, name, sum); got != want {
			t.Errorf("%s: %d", name, got)
		}
	}
}
