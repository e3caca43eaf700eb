package omahaclient_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goomaha "github.com/kinvolk/go-omaha/omaha"

	"github.com/nebraska/omahaclient"
)

// A server that nobody here wrote: go-omaha's TrivialServer, which serves one file to everybody.

// trivial is that server with a record of what it was told.
type trivial struct {
	*goomaha.TrivialServer
	file string
	url  string

	mu   sync.Mutex // guards what follows
	told []string
	news chan struct{} // closed and replaced at each change
}

func newTrivial(t *testing.T, version, content string) *trivial {
	t.Helper()
	srv, err := goomaha.NewTrivialServer("127.0.0.1:0")
	must(t, err)
	s := &trivial{TrivialServer: srv, file: filepath.Join(t.TempDir(), "update.bin"), news: make(chan struct{})}
	s.url = "http://" + srv.Addr().String()
	must(t, os.WriteFile(s.file, []byte(content), 0o600))
	srv.SetVersion(version)
	must(t, srv.AddPackage(s.file, "update.gz"))
	srv.Updater = recorder{srv.Updater, s}
	served := make(chan error)
	go func() { served <- srv.Serve() }()
	t.Cleanup(func() {
		srv.Destroy()
		must(t, <-served)
	})
	return s
}

// recorder notes what the server is told.
type recorder struct {
	goomaha.Updater
	s *trivial
}

func (r recorder) Event(_ *goomaha.Request, app *goomaha.AppRequest, e *goomaha.EventRequest) {
	text := fmt.Sprintf("%s %d/%d", app.ID, e.Type, e.Result)
	if e.ErrorCode != 0 {
		text += fmt.Sprint(" ", e.ErrorCode)
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.told = append(r.s.told, text)
	close(r.s.news)
	r.s.news = make(chan struct{})
}

// wait waits until the server was told so many events.
func (s *trivial) wait(t *testing.T, events int) string {
	t.Helper()
	for {
		s.mu.Lock()
		told, news := strings.Join(s.told, ", "), s.news
		n := len(s.told)
		s.mu.Unlock()
		if n >= events {
			return told
		}
		select {
		case <-news:
		case <-time.After(time.Minute):
			t.Fatalf("the server was told %s", told)
		}
	}
}

func TestTrivialServer_wholeJob(t *testing.T) {
	srv := newTrivial(t, "2.0.0", "the new version")
	c, err := omahaclient.New(srv.url, omahaclient.WithApp(appA, "1.0.0"), omahaclient.WithStateDir(t.TempDir()), quick())
	must(t, err)
	defer c.Close()
	w := &world{t: t, patience: time.Minute}
	s := w.updates(c)
	o := s.next()
	want(t, "version", o.Version, "2.0.0")
	want(t, "name", o.Payloads[0].Name, "update.gz")
	want(t, "digest", o.Payloads[0].Digest, fmt.Sprintf("sha256:%x", o.Manifest.Packages[0].SHA256))
	wantFile(t, o.Payloads[0].Path, []byte("the new version"))
	must(t, o.Ack(nil))
	want(t, "events", srv.wait(t, 3), fmt.Sprintf("%[1]s 13/1, %[1]s 14/1, %[1]s 3/1", appA))
	must(t, c.CheckNow(t.Context()))
	want(t, "reason", status(t, c, appA).Reason, "no update")
	s.stop()
}

func TestTrivialServer_corruptFile(t *testing.T) {
	srv := newTrivial(t, "2.0.0", "the new version")
	must(t, os.WriteFile(srv.file, []byte("another version"), 0o600)) // of the same size
	c, err := omahaclient.New(srv.url, omahaclient.WithApp(appA, "1.0.0"), omahaclient.WithStateDir(t.TempDir()), quick())
	must(t, err)
	defer c.Close()
	s := (&world{t: t, patience: time.Minute}).updates(c)
	want(t, "events", strings.Join(strings.Split(srv.wait(t, 2), ", ")[:2], ", "), fmt.Sprintf("%[1]s 13/1, %[1]s 3/0 10", appA))
	s.stop()
}

// Reports wait for a server that is away, and the next process delivers them.
func TestTrivialServer_nextProcess(t *testing.T) {
	srv := newTrivial(t, "2.0.0", "the new version")
	dir := t.TempDir()
	c, err := omahaclient.New(srv.url, omahaclient.WithApp(appA, ""), omahaclient.WithStateDir(dir), quick())
	must(t, err)
	s := (&world{t: t, patience: time.Minute}).updates(c)
	must(t, s.next().Installed())
	s.stop()
	must(t, c.Close())
	c, err = omahaclient.New(srv.url, omahaclient.WithApp(appA, ""), omahaclient.WithStateDir(dir), quick())
	must(t, err)
	defer c.Close()
	want(t, "version", status(t, c, appA).Version, "2.0.0")
	must(t, c.Flush(t.Context()))
	told := srv.wait(t, 4)
	// A request that was on its way when the stream ended may come to its end on the server at any later time.
	if !strings.Contains(told, appA+" 800/1") || !strings.Contains(told, appA+" 3/2") {
		t.Errorf("the server was told %s", told)
	}
}
