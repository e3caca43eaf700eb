package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8"
	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun_demoShowsTheWholeWay(t *testing.T) {
	temp := t.TempDir()
	for _, variable := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(variable, temp)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-size", "100000", "-rate", "0"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		"listens on http://127.0.0.1:",
		"io.example.Editor   update check: the server grants 1.5.0; downloading editor.bin\n",
		"io.example.Editor   downloading editor.bin: 100 % of 97.7 KiB",
		"io.example.Editor   offer on the channel: 1.5.0 replaces 1.4.2; 1 file, verified",
		"io.example.Gateway  1.0.0 deployed and acknowledged",
		"io.example.Editor   granted → downloading → downloaded → complete, version 1.5.0",
		"io.example.Gateway  granted → downloading → downloaded → complete, version 1.0.0",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
	if n := strings.Count(out.String(), "update check:"); n != 2 {
		t.Errorf("%d update checks, want one for each app:\n%s", n, &out)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

func TestRun_demoFailsWhereAnAppCannotBeDeployed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "installed"), nil, 0o600); err != nil { // in the way of the directory
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := run(t.Context(), []string{"-size", "1000", "-dir", dir}, &out)
	if err == nil || !strings.Contains(err.Error(), `io.example.Editor: the server's record ends with "error", error code 1`) {
		t.Errorf("run: %v", err)
	}
	if !strings.Contains(out.String(), "1.5.0 could not be deployed") {
		t.Errorf("the failure is not in:\n%s", &out)
	}
}

func TestRun_demoEndsCleanlyInMidDownload(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &listener{want: "downloading editor.bin\n", heard: cancel}
	if err := run(ctx, []string{"-size", "1000000", "-rate", "1000"}, out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "interrupted\n") || !strings.Contains(out.String(), "granted → downloading, version 1.4.2") {
		t.Errorf("the output does not tell of the interruption:\n%s", out)
	}
}

func TestRun_updatesFromAServer(t *testing.T) {
	const appID = "io.example.Mine"
	server := testserver.New(testserver.WithAuthorize(func(r *http.Request) bool {
		return r.Header.Get("Authorization") == "Bearer s3cret"
	}))
	server.AddGroup(appID, "beta", testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{
		Version: "2.0.0", Files: []testserver.File{{Name: "mine.bin", Content: []byte("the new one")}},
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-server", server.URL(), "-app", appID + "=v1.9.0", "-channel", "beta", "-token", "s3cret", "-dir", dir}, &out)
	}()
	complete := func(s *testserver.Server) bool { return record(s, appID).Status == testserver.Complete }
	if err := server.WaitFor(ctx, complete); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v\n%s", err, &out)
	}
	if got := record(server, appID); got.Version != "2.0.0" || got.Grants != 1 {
		t.Errorf("the server's record: %+v", got)
	}
	installed, err := os.ReadFile(filepath.Join(dir, "installed", appID, "2.0.0", "mine.bin"))
	if string(installed) != "the new one" || err != nil {
		t.Errorf("installed: %q, %v", installed, err)
	}
}

func TestRun_saysWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"an app without a server", []string{"-app", "io.example.App=1.0.0"}, "-app needs -server"},
		{"a server without an app", []string{"-server", "http://127.0.0.1/"}, "needs at least one -app"},
		{"a word too many", []string{"now"}, `unexpected argument "now"`},
		{"no payload", []string{"-size", "0"}, "-size must be above 0"},
		{"an unknown flag", []string{"-verbose"}, "-verbose"},
		{"a bad version", []string{"-server", "http://127.0.0.1/", "-app", "io.example.App=1.0", "-dir", t.TempDir()}, "not a semantic version"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := run(t.Context(), tc.args, io.Discard); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("run: %v, want something with %q", err, tc.want)
			}
		})
	}
	if err := run(t.Context(), []string{"-help"}, io.Discard); err != nil {
		t.Errorf("-help: %v", err)
	}
}

func TestWatch_saysWhatAnAppWaitsFor(t *testing.T) {
	server := testserver.New()
	server.AddGroup("io.example.Mine", "beta", testserver.AnyArch, testserver.Policy{Disabled: true}).Publish(testserver.Release{Version: "1.0.0"})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &listener{want: "updates disabled for this group", heard: cancel}
	err := run(ctx, []string{"-server", server.URL(), "-app", "io.example.Mine", "-channel", "beta", "-dir", t.TempDir()}, out)
	if err != nil || !strings.Contains(out.String(), "io.example.Mine     0.0.0 idle server: ") {
		t.Errorf("run: %v\n%s", err, out)
	}
}

// That a server does not answer shows at the first attempt, not after the last one.
func TestRun_saysThatTheServerIsAskedAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &listener{want: "attempt=1 error=", heard: cancel}
	err := run(ctx, []string{"-server", "http://" + refused(t), "-app", "io.example.App=1.0.0", "-dir", t.TempDir()}, out)
	if err != nil || !strings.Contains(out.String(), "trying again") {
		t.Errorf("run: %v\n%s", err, out)
	}
}

func TestBars_endWithTheirDownloads(t *testing.T) {
	var out listener
	b := newBars(&out, mpb.WithAutoRefresh(), mpb.WithWidth(100))
	whole := omahaclient.Progress{AppID: "io.example.Whole", Version: "1.0.0", Payload: "a", Total: 10}
	cut := omahaclient.Progress{AppID: "io.example.Cut", Version: "1.0.0", Payload: "b"} // of unknown size
	broken := omahaclient.Progress{AppID: "io.example.Broken", Version: "1.0.0", Payload: "c", Total: 10}
	for _, p := range []*omahaclient.Progress{&whole, &cut, &broken} {
		b.Progress(*p)
		p.Done = 5
		b.Progress(*p)
	}
	whole.Done, whole.Finished = 10, true
	broken.Finished, broken.Err = true, errors.New("the host is gone")
	b.Progress(whole)
	b.Progress(broken)
	io.WriteString(b, "text among the bars\n")
	b.Close()
	b.Close()
	b.Progress(cut) // too late, no harm
	io.WriteString(b, "text after the bars\n")
	for _, want := range []string{"io.example.Whole 1.0.0", "10.0 b of 10.0 b", "the host is gone", "text among the bars", "text after the bars"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

func TestBarsFit(t *testing.T) {
	for _, tc := range []struct {
		name          string
		columns, rows int
		want          bool
	}{
		{"a terminal", 80, 24, true},
		{"two rows", 80, 2, true},
		{"one row", 80, 1, false},
		{"columns without rows", 100, 0, false},
		{"rows without columns", 0, 24, false},
		{"neither", 0, 0, false},
	} {
		if got := barsFit(tc.columns, tc.rows); got != tc.want {
			t.Errorf("%s: barsFit(%d, %d) = %v", tc.name, tc.columns, tc.rows, got)
		}
	}
}

func TestByteSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 10: "1.0 KiB", 3 << 19: "1.5 MiB"} {
		if got := byteSize(n); got != want {
			t.Errorf("byteSize(%d) = %q, want %q", n, got, want)
		}
	}
}

// refused is an address at which nobody listens.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listener keeps what is written, and calls heard once want is in it.
type listener struct {
	want  string
	heard func()

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *listener) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(text)
	if l.heard != nil && strings.Contains(l.text.String(), l.want) {
		l.heard()
	}
	return n, err
}

func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
