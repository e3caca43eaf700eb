package apply_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/apply"
)

func wantText(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v; want one with %q", err, text)
	}
}

func TestExec(t *testing.T) {
	dir := t.TempDir()
	must(t, apply.Exec(script(t, dir, "good", "echo fine")).Probe(t.Context()))
	err := apply.Exec(script(t, dir, "bad", "echo disk is gone >&2; exit $1"), "3").Probe(t.Context())
	wantText(t, err, "exit status 3")
	wantText(t, err, "disk is gone")
	want(t, "exit code", code(err), 3)
	wantText(t, apply.Exec(filepath.Join(dir, "none")).Probe(t.Context()), "none")
}

func TestHTTP(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/login":
			http.Redirect(w, r, "/", http.StatusFound)
		case r.URL.Path == "/late" && calls.Add(1) < 3, r.URL.Path == "/bad":
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	must(t, apply.HTTP(server.URL+"/", time.Minute).Probe(t.Context()))
	must(t, apply.HTTP(server.URL+"/late", time.Minute).Probe(t.Context()))
	err := apply.HTTP(server.URL+"/bad?token=secret", time.Second).Probe(t.Context())
	wantText(t, err, "503")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v shows a query", err)
	}
	withUser := strings.Replace(server.URL, "//", "//somebody:hunter22@", 1)
	for _, err := range []error{
		apply.HTTP(withUser+"/bad", time.Millisecond).Probe(t.Context()),
		apply.HTTP("http://somebody:hunter22@127.0.0.1:1/", time.Millisecond).Probe(t.Context()),
		apply.HTTP("http://somebody:hun/ter22@127.0.0.1:x/", time.Millisecond).Probe(t.Context()), // cannot be parsed
	} {
		if err == nil || strings.Contains(err.Error(), "somebody") || strings.Contains(err.Error(), "ter22") {
			t.Errorf("error %v; want one without user and password", err)
		}
	}
	wantText(t, apply.HTTP("example.com", time.Second).Probe(t.Context()), "absolute http(s) URL")
	wantText(t, apply.HTTP(server.URL+"/login", time.Second).Probe(t.Context()), "302")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errDone)
	wantErr(t, apply.HTTP(server.URL+"/bad", time.Hour).Probe(ctx), errDone)
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, apply.TCP(l.Addr().String(), time.Minute).Probe(t.Context()))
	l.Close()
	wantText(t, apply.TCP(l.Addr().String(), time.Millisecond).Probe(t.Context()), "not healthy within 1ms")
}

// fakeSystemd puts a systemctl into PATH that says what a file says.
func fakeSystemd(t *testing.T, body string) {
	t.Helper()
	dir := t.TempDir()
	script(t, dir, "systemctl", `cd "`+dir+`"; n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n > n`+"\n"+body)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestSystemd(t *testing.T) {
	const active = "echo ActiveState=active; echo SubState=running; "
	for _, tc := range []struct{ name, body, want string }{
		{"active at last", `if [ $n -lt 2 ]; then echo ActiveState=activating; else ` + active + "echo MainPID=7; fi", ""},
		{"dies", `if [ $n -lt 2 ]; then ` + active + "else echo ActiveState=failed; echo SubState=failed; echo Result=exit-code; fi", "exit-code"},
		{"restarts", active + "echo MainPID=$n", "restarted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fakeSystemd(t, tc.body)
			err := apply.Systemd("agent.service", 300*time.Millisecond).Probe(t.Context())
			if tc.want == "" {
				must(t, err)
			} else {
				wantText(t, err, tc.want)
			}
		})
	}
}
