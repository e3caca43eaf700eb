package testserver_test

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

const (
	appA = "io.example.A"
	appB = "io.example.B"

	// What an <app> of a request holds.
	ping  = `<ping active="1"></ping>`
	check = `<updatecheck></updatecheck>`
	both  = ping + check
)

// event is an <event> of a request.
func event(eventType, result int, attributes ...string) string {
	return fmt.Sprintf(`<event eventtype="%d" eventresult="%d" %s></event>`, eventType, result, strings.Join(attributes, " "))
}

// app is an <app> of a request by machine m1; attributes replace its defaults.
func app(id, content string, attributes ...string) string {
	values := map[string]string{"version": "1.0.0", "track": "stable", "machineid": "m1"}
	for _, a := range attributes {
		key, value, _ := strings.Cut(a, "=")
		values[key] = value
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<app appid="%s"`, id)
	for _, key := range []string{"version", "track", "machineid", "machinealias", "board", "multi_manifest_ok"} {
		if v, set := values[key]; set {
			fmt.Fprintf(&b, ` %s="%s"`, key, v)
		}
	}
	return b.String() + ">" + content + "</app>"
}

func request(arch string, apps ...string) string {
	return `<request protocol="3.0" version="test" sessionid="s" requestid="r" userid="u" installsource="scheduler" ismachine="1">` +
		`<os platform="linux" arch="` + arch + `"></os>` + strings.Join(apps, "") + `</request>`
}

// These types read answers; package testserver has others.
type (
	answer struct {
		Apps []answerApp `xml:"app"`
	}
	answerApp struct {
		ID     string         `xml:"appid,attr"`
		Status string         `xml:"status,attr"`
		Ping   *answerStatus  `xml:"ping"`
		Events []answerStatus `xml:"event"`
		Check  *answerCheck   `xml:"updatecheck"`
	}
	answerStatus struct {
		Status string `xml:"status,attr"`
	}
	answerCheck struct {
		Status string `xml:"status,attr"`
		URLs   []struct {
			Codebase string `xml:"codebase,attr"`
		} `xml:"urls>url"`
		Manifests []answerManifest `xml:"manifest"`
	}
	answerManifest struct {
		Version     string          `xml:"version,attr"`
		IsFloor     bool            `xml:"is_floor,attr"`
		IsTarget    bool            `xml:"is_target,attr"`
		FloorReason string          `xml:"floor_reason,attr"`
		Packages    []answerPackage `xml:"packages>package"`
		Actions     []struct {
			Event  string `xml:"event,attr"`
			SHA256 string `xml:"sha256,attr"`
		} `xml:"actions>action"`
	}
	answerPackage struct {
		Name     string `xml:"name,attr"`
		SHA1     string `xml:"hash,attr"`
		SHA256   string `xml:"hash_sha256,attr"`
		Size     int64  `xml:"size,attr"`
		Required bool   `xml:"required,attr"`
		Metadata *struct {
			ContentType string `xml:"content-type,attr"`
			Text        string `xml:",chardata"`
		} `xml:"metadata"`
	}
)

// offered is the version that an app was offered, or "app status/check status".
func (a answerApp) offered() string {
	switch {
	case a.Check == nil:
		return "no check"
	case len(a.Check.Manifests) > 0:
		return a.Check.Manifests[0].Version
	}
	return a.Status + "/" + a.Check.Status
}

// bench is a server on a clock of the test's, asked without any network.
type bench struct {
	*testserver.Server
	t     *testing.T
	clock *clock
}

func newBench(t *testing.T, opts ...testserver.Option) *bench {
	c := &clock{now: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)}
	return &bench{testserver.New(append(opts, testserver.WithClock(c.Now))...), t, c}
}

type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// group adds a group of app A with release 2.0.0.
func (b *bench) group(p testserver.Policy) *testserver.Group {
	g := b.AddGroup(appA, "stable", testserver.AnyArch, p)
	g.Publish(testserver.Release{Version: "2.0.0", Files: []testserver.File{{Name: "a.bin", Content: []byte("two")}}})
	return g
}

func (b *bench) post(path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w
}

// send posts a request of these apps and returns the answer's apps.
func (b *bench) send(apps ...string) []answerApp {
	b.t.Helper()
	return b.sendArch("x64", apps...)
}

func (b *bench) sendArch(arch string, apps ...string) []answerApp {
	b.t.Helper()
	w := b.post("/v1/update/", request(arch, apps...))
	if w.Code != http.StatusOK {
		b.t.Fatalf("status %d, want 200", w.Code)
	}
	var a answer
	if err := xml.Unmarshal(w.Body.Bytes(), &a); err != nil {
		b.t.Fatalf("answer %q: %v", w.Body, err)
	}
	return a.Apps
}

// one sends one app of machine m1 and returns its answer.
func (b *bench) one(content string, attributes ...string) answerApp {
	b.t.Helper()
	apps := b.send(app(appA, content, attributes...))
	if len(apps) != 1 {
		b.t.Fatalf("%d apps answered, want 1", len(apps))
	}
	return apps[0]
}

// offers sends one app and wants this offer (or "app status/check status").
func (b *bench) offers(want, content string, attributes ...string) {
	b.t.Helper()
	if got := b.one(content, attributes...).offered(); got != want {
		b.t.Errorf("offered %s, want %s", got, want)
	}
}

// is wants a status of app A on machine m1 (or another).
func (b *bench) is(want testserver.Status, machine ...string) testserver.Instance {
	b.t.Helper()
	id := "m1"
	if len(machine) > 0 {
		id = machine[0]
	}
	i, _ := b.Instance(appA, id)
	if i.Status != want {
		b.t.Errorf("instance %s is %q, want %q", id, i.Status, want)
	}
	return i
}
