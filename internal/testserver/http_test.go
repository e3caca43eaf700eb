package testserver_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/testserver"
)

const declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

func TestHTTP_paths(t *testing.T) {
	const page, xml = "text/html; charset=utf-8", "text/xml"
	tests := []struct {
		name, secret, method, path string
		status                     int
		contentType                string
	}{
		{"endpoint", "", http.MethodPost, "/v1/update", 200, xml},
		{"trailing slash", "", http.MethodPost, "/v1/update/", 200, xml},
		{"two trailing slashes", "", http.MethodPost, "/v1/update//", 200, page},
		{"query", "", http.MethodPost, "/v1/update/?cup2key=1:x", 200, xml},
		{"get", "", http.MethodGet, "/v1/update/", 200, page},
		{"root", "", http.MethodPost, "/", 200, page},
		{"mistyped", "", http.MethodPost, "/v1/updates/", 200, page},
		{"secret not asked for", "", http.MethodPost, "/v1/update/s3cret", 200, page},
		{"secret", "s3cret", http.MethodPost, "/v1/update/s3cret", 200, xml},
		{"secret and slash", "/s3cret/", http.MethodPost, "/v1/update/s3cret/", 200, xml},
		{"secret missing", "s3cret", http.MethodPost, "/v1/update/", 501, ""},
		{"wrong secret", "s3cret", http.MethodPost, "/v1/update/secret", 501, ""},
		{"get with wrong secret", "s3cret", http.MethodGet, "/v1/update", 501, ""},
		{"elsewhere with secret", "s3cret", http.MethodPost, "/v1", 200, page},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, testserver.WithSecret(test.secret))
			w := httptest.NewRecorder()
			b.ServeHTTP(w, httptest.NewRequest(test.method, test.path, strings.NewReader(request("x64"))))
			if w.Code != test.status || w.Header().Get("Content-Type") != test.contentType {
				t.Errorf("%d %q, want %d %q", w.Code, w.Header().Get("Content-Type"), test.status, test.contentType)
			}
			if test.status == 501 && w.Body.Len() != 0 {
				t.Errorf("body %q, want none", w.Body)
			}
		})
	}
}

func TestHTTP_bodies(t *testing.T) {
	pad := strings.Repeat(" ", 64<<10)
	b := newBench(t)
	b.group(testserver.Policy{})
	full := request("x64", app(appA, both))
	tests := []struct {
		name, body string
		status     int
		want       string // of the body; "" means none, "…" any XML answer
	}{
		{"malformed", `<request protocol="3.0"><app`, 200, declaration},
		{"empty", "", 200, declaration},
		{"other root", "<response/>", 200, declaration},
		{"number that is none", strings.Replace(full, `ismachine="1"`, `ismachine="yes"`, 1), 200, declaration},
		{"other charset", `<?xml version="1.0" encoding="latin1"?>` + full, 200, declaration},
		{"unknown attributes and elements", strings.Replace(full, "<os ", `<hw sse="1"/><os future="1" `, 1), 200, "…"},
		{"at the limit", full + pad[:64<<10-len(full)], 200, "…"},
		{"too large", strings.Replace(full, "<os ", pad+"<os ", 1), 400, ""},
		{"too large behind its end", full + pad, 200, "…"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := b.post("/v1/update/", test.body)
			got := w.Body.String()
			if test.want == "…" && strings.Contains(got, `<app appid="io.example.A" status="ok">`) {
				got = "…"
			}
			if w.Code != test.status || got != test.want {
				t.Errorf("%d %q, want %d %q", w.Code, got, test.status, test.want)
			}
		})
	}
}

func TestHTTP_authorizeIsAProxyInFront(t *testing.T) {
	b := newBench(t, testserver.WithAuthorize(func(r *http.Request) bool {
		return r.Header.Get("Authorization") == "Bearer t0ken"
	}))
	b.group(testserver.Policy{})
	if w := b.post("/v1/update/", request("x64", app(appA, both))); w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("%d %v, want a challenge", w.Code, w.Header())
	}
	if _, known := b.Instance(appA, "m1"); known {
		t.Error("the refused request was processed")
	}
	r := httptest.NewRequest(http.MethodPost, "/v1/update/", strings.NewReader(request("x64", app(appA, both))))
	r.Header.Set("Authorization", "Bearer t0ken")
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("%d with the token", w.Code)
	}
	b.is(testserver.Granted)
}

func TestRequests_areLogged(t *testing.T) {
	b := newBench(t, testserver.WithLog(2))
	b.group(testserver.Policy{})
	b.post("/v1/update/", "junk")
	b.sendArch("aarch64", app(appA, both+event(3, 0, `errorcode="9"`, `previousversion="0.9.0"`, `nextversion="2.0.0"`), "machinealias=alias", "board=arm64-usr"))
	b.post("/elsewhere?q=1", "junk")
	list := b.Requests()
	if len(list) != 2 {
		t.Fatalf("%d requests remembered, want the last 2", len(list))
	}
	r := list[0]
	if r.Malformed || r.Arch != "aarch64" || r.InstallSource != "scheduler" || r.SessionID != "s" || r.RequestID != "r" || r.UserID != "u" || r.Version != "test" {
		t.Errorf("logged %+v", r)
	}
	if r.Status != 200 || !strings.Contains(string(r.Answer), `<event status="ok">`) || !strings.Contains(string(r.Body), appA) {
		t.Errorf("logged answer %d %s", r.Status, r.Answer)
	}
	a := r.Apps[0]
	want := testserver.Event{Type: 3, ErrorCode: 9, PreviousVersion: "0.9.0", NextVersion: "2.0.0"}
	if a.ID != appA || a.Alias != "alias" || a.Board != "arm64-usr" || !a.Ping || !a.Check || len(a.Events) != 1 || a.Events[0] != want {
		t.Errorf("logged app %+v", a)
	}
	if r := list[1]; !r.Malformed || r.Path != "/elsewhere?q=1" || string(r.Body) != "junk" {
		t.Errorf("logged %+v", r)
	}
	if i := b.is(testserver.Granted); i.Alias != "alias" || i.Arch != testserver.AArch64 || i.Track != "stable" {
		t.Errorf("instance %+v", i)
	}
}

func TestRequests_canBeForgotten(t *testing.T) {
	b := newBench(t, testserver.WithLog(0))
	b.post("/v1/update/", request("x64"))
	if n := len(b.Requests()); n != 0 {
		t.Errorf("%d requests remembered", n)
	}
}
