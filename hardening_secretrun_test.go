package omahaclient_test

import (
	"context"
	"fmt"
	"html"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testregistry"
	"github.com/nebraska/omahaclient/internal/testserver"
)

// The whole client, with a secret wherever it takes one, through what can go wrong: none of them may turn up in a log, an error, an
// event or the state directory.

// given are the secrets that come from the program, received those that servers send in offers, which the journal has to keep.
var (
	given = []string{
		"user", "password", "path", "query", "header", "bearer", "cookie", "jar", "proxy-user", "proxy-password",
		"file-header", "file-cookie", "registry-user", "registry-password", "index-user", "index-password", "index-query",
	}
	received = []string{"url-user", "url-password", "url-query", "name-query", "metadata", "redirect"}
)

// treason is a network that shows everything it was shown, and the client in it.
type treason struct {
	*betrayal
	world  *world
	client *omahaclient.Client
	omaha  *turncoat // in front of the Omaha server, as a proxy
	files  *turncoat // a payload host
	images *turncoat // a registry
}

// turncoat answers honestly, or as it is told.
type turncoat struct {
	*httptest.Server
	honest http.Handler

	mu     sync.Mutex // guards what follows
	answer http.HandlerFunc
	asked  int
	seen   seen
	bodies strings.Builder
}

func newTurncoat(t *testing.T, honest http.Handler) *turncoat {
	c := &turncoat{honest: honest}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *turncoat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	c.mu.Lock()
	answer := c.answer
	c.asked++
	c.seen.note(r)
	c.bodies.Write(body)
	c.mu.Unlock()
	if answer == nil {
		answer = c.honest.ServeHTTP
	}
	answer(w, r)
}

func (c *turncoat) turn(answer http.HandlerFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

func (c *turncoat) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *turncoat) host() string { return strings.TrimPrefix(c.URL, "http://") }

// shown is all that a request shows, in one line.
func shown(r *http.Request) string {
	text := r.URL.String() + " " + r.URL.Path + " " + r.URL.Query().Get("key")
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		text += " " + strings.Join(r.Header[name], " ")
	}
	if user, password, ok := r.BasicAuth(); ok {
		text += " " + user + " " + password
	}
	for _, cookie := range r.Cookies() {
		text += " " + cookie.Value
	}
	return text
}

// echo answers with a status and all that it was shown.
func echo(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], strings.ReplaceAll(header[i+1], "SHOWN", shown(r)))
		}
		w.WriteHeader(status)
		io.WriteString(w, shown(r))
	}
}

// words answers with what it was shown, one bit at a time, so that nothing is cut away before a secret is shown.
func words(answer func(w http.ResponseWriter, word string)) http.HandlerFunc {
	var mu sync.Mutex
	turn := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		list := strings.Fields(shown(r))
		word := list[turn%len(list)]
		turn++
		mu.Unlock()
		answer(w, word)
	}
}

// raw sends a text instead of an answer, with what it was shown in it.
func raw(text string) http.HandlerFunc {
	return words(func(w http.ResponseWriter, word string) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		io.WriteString(conn, strings.ReplaceAll(text, "SHOWN", word))
		conn.Close()
	})
}

func malformed() []http.HandlerFunc {
	return []http.HandlerFunc{
		raw(""), raw("SHOWN\r\n\r\n"), raw("HTTP/1.1 SHOWN\r\n\r\n"), raw("HTTP/SHOWN 200 OK\r\n\r\n"), raw("HTTP/1.1 200 OK\r\nSHOWN\r\n\r\n"),
		raw("HTTP/1.1 200 OK\r\nX SHOWN: x\r\n\r\n"), raw("HTTP/1.1 200 OK\r\nContent-Length: SHOWN\r\n\r\n"),
		raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: SHOWN\r\n\r\n"), raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSHOWN\r\nSHOWN"),
		raw("HTTP/1.1 200 OK\r\nContent-Encoding: SHOWN\r\nContent-Type: text/xml\r\n\r\nSHOWN"),
	}
}

func commit(t *testing.T) *treason {
	t.Helper()
	b := &betrayal{t: t, secrets: map[string]string{}, seen: map[string]bool{}}
	for _, what := range slices.Concat(given, received) {
		b.secrets[what] = secretOf(what)
	}
	ts := testserver.New()
	must(t, ts.Start())
	t.Cleanup(ts.Close)
	v := &treason{betrayal: b, world: &world{Server: ts, t: t, dir: t.TempDir(), log: &logbook{}, patience: time.Minute}}
	v.omaha = newTurncoat(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "jar", Value: b.secrets["jar"], Path: "/"})
		r.URL.Path = "/v1/update/"
		ts.ServeHTTP(w, r)
	}))
	v.files = newTurncoat(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(v.content()) }))
	return v
}

func (v *treason) content() []byte { return []byte("a payload") }

// logger logs everything there is.
func (v *treason) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(v.world.log, &slog.HandlerOptions{Level: slog.LevelDebug - 100, AddSource: true}))
}

// open makes the client, with every option that takes a secret.
func (v *treason) open(opts ...omahaclient.Option) {
	v.t.Helper()
	s := v.secrets
	jar, err := cookiejar.New(nil)
	must(v.t, err)
	proxy := &url.URL{Scheme: "http", Host: v.omaha.host(), User: url.UserPassword(s["proxy-user"], s["proxy-password"])}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}
	endpoint := "http://" + url.UserPassword(s["user"], s["password"]).String() + "@updates.example.com/v1/update/" + url.PathEscape(s["path"]) +
		"?key=" + url.QueryEscape(s["query"])
	logger := v.logger()
	v.client, err = omahaclient.New(endpoint, append([]omahaclient.Option{
		app(appA), quick(), omahaclient.WithStateDir(v.world.dir), omahaclient.WithMachineID(machine), omahaclient.WithLogger(logger),
		omahaclient.WithHTTPClient(&http.Client{Transport: transport, Jar: jar}),
		omahaclient.WithAuthorization(func(r *http.Request) error {
			r.Header.Set("X-Token", s["header"])
			r.Header.Add("X-Bearer", "Bearer "+s["bearer"])
			r.AddCookie(&http.Cookie{Name: "session", Value: s["cookie"]})
			return nil
		}),
		omahaclient.WithFetcher("binary", fetcher.HTTP{
			Logger: logger, Tries: 2, RetryWait: time.Millisecond,
			Authorize: func(r *http.Request) error {
				r.Header.Set("X-File", s["file-header"])
				r.AddCookie(&http.Cookie{Name: "file", Value: s["file-cookie"]})
				return nil
			},
		}),
		omahaclient.WithFetcher(imageType, fetcher.OCI{
			Logger: logger, Tries: 2, RetryWait: time.Millisecond, Platform: "linux/amd64", MirrorsDir: "none",
			Credentials: func(context.Context, string) (fetcher.Credential, error) {
				return fetcher.Credential{Username: s["registry-user"], Password: s["registry-password"]}, nil
			},
		}),
		omahaclient.WithProgress(func(p omahaclient.Progress) { v.in("Progress", fmt.Sprintf("%+v", p)) }),
	}, opts...)...)
	must(v.t, err)
	v.t.Cleanup(func() { v.client.Close() })
}

// look looks at what the client says now.
func (v *treason) look(errs ...error) {
	v.t.Helper()
	for _, err := range append(errs, v.client.Err()) {
		if err != nil {
			v.in("an error", fmt.Sprintf("%v %+v %s", err, err, err))
		}
	}
	for _, s := range v.client.Status() {
		v.in("Status", fmt.Sprintf("%+v", s))
	}
}

// release is one whose addresses are full of secrets.
func (v *treason) release(version string) testserver.Release {
	s := v.secrets
	return testserver.Release{
		Version: version,
		Codebases: []string{"http://" + url.UserPassword(s["url-user"], s["url-password"]).String() + "@" + v.files.host() +
			"/dir?sig=" + url.QueryEscape(s["url-query"]) + "&file="},
		Files: []testserver.File{{
			Name: "app.bin", Content: v.content(), ContentType: "binary", Metadata: `{"token":"` + s["metadata"] + `"}`,
		}},
	}
}

// end looks at all that is left.
func (v *treason) end() {
	v.t.Helper()
	v.look(v.client.Close())
	if len(v.world.log.lines("error")) < 5 {
		v.t.Error("hardly anything was logged: this test cannot fail")
	}
	v.in("the log", v.world.log.String())
	v.omaha.mu.Lock()
	v.in("a request's body", v.omaha.bodies.String())
	v.omaha.mu.Unlock()
	v.under(v.world.dir, received[:5]...)
}

func TestSecrets_whileTheOmahaServerFails(t *testing.T) {
	v := commit(t)
	v.world.offering(appA, "1.0.0")
	v.open()
	s := v.world.updates(v.client)
	must(t, v.client.CheckNow(t.Context()))
	for _, what := range given[:10] {
		found := false
		for _, form := range append(forms(v.secrets[what]), forms(v.secrets[given[0]] + ":" + v.secrets[what])[0]) {
			found = found || strings.Contains(v.omaha.seen.String(), form)
		}
		if !found && what != "user" && what != "jar" {
			t.Errorf("the server did not see the secret %s: this test cannot fail", what)
		}
	}
	answers := malformed()
	for _, status := range []int{200, 204, 400, 401, 403, 404, 407, 413, 429, 500, 501, 502, 503} {
		answers = append(answers, echo(status), echo(status, "Content-Type", "text/html"), echo(status, "Content-Type", "SHOWN", "Retry-After", "SHOWN"))
	}
	for _, location := range []string{"http://other.example/SHOWN", "http://SHOWN@updates.example.com/", "http://[SHOWN", "/x?SHOWN", "SHOWN", "file:///SHOWN"} {
		answers = append(answers, echo(302, "Location", location), echo(307, "Location", location))
	}
	for _, body := range []string{
		"<SHOWN", `<response protocol="SHOWN">`, `<response protocol="3.0" server="SHOWN"><app appid="SHOWN"`, "<!DOCTYPE SHOWN>", "&SHOWN;", "<a></SHOWN>",
		"<html>SHOWN", "",
	} {
		answers = append(answers, words(func(w http.ResponseWriter, word string) {
			w.Header().Set("Content-Type", "text/xml")
			io.WriteString(w, strings.ReplaceAll(body, "SHOWN", word))
		}), words(func(w http.ResponseWriter, word string) {
			w.Header().Set("Content-Type", `text/xml; charset="`+word+`"`)
			io.WriteString(w, strings.ReplaceAll(body, "SHOWN", html.EscapeString(word)))
		}))
	}
	for _, answer := range answers {
		v.omaha.turn(answer)
		err := v.client.CheckNow(t.Context())
		v.look(err)
	}
	for _, mirror := range mirrors() {
		answer, done := mirror.answer()
		v.omaha.turn(answer)
		for !done() {
			v.look(v.client.CheckNow(t.Context()))
		}
	}
	v.omaha.turn(nil)
	v.omaha.CloseClientConnections()
	v.omaha.Listener.Close() // the proxy is gone
	if err := v.client.CheckNow(t.Context()); err == nil {
		t.Error("a check went through a proxy that is gone")
	} else {
		v.look(err)
	}
	s.stop()
	v.end()
}

func TestSecrets_whilePayloadHostsFail(t *testing.T) {
	v := commit(t)
	g := v.world.group(appA)
	v.open()
	s := v.world.updates(v.client)
	n := 1
	// attempt publishes a release and waits until it has failed, or was handed over.
	attempt := func(what string, fails bool, edit func(*testserver.Release)) {
		t.Helper()
		n++
		r := v.release(fmt.Sprintf("%d.0.0", n))
		if edit != nil {
			edit(&r)
		}
		g.Publish(r)
		v.look(v.client.CheckNow(t.Context()))
		if !fails {
			o := s.next()
			want(t, what, o.Version, r.Version)
			v.in("an offer's payloads", fmt.Sprintf("%+v", o.Payloads))
			v.look(o.Ack(nil))
			v.world.reaches(appA, testserver.Complete)
			return
		}
		var i testserver.Instance // as it was then: the next attempt may follow at once
		v.world.wait(what, func() bool {
			i = v.world.instance(appA)
			return i.Status == testserver.Error && i.GrantedVersion == r.Version || i.Status == testserver.Complete && i.Version == r.Version
		})
		if i.Status != testserver.Error {
			t.Errorf("%s: it did not fail", what)
		}
		v.look()
	}
	attempt("success", false, nil)
	for _, what := range []string{"url-user", "url-password", "url-query", "file-header", "file-cookie"} {
		if !slices.ContainsFunc(append(forms(v.secrets[what]), forms(v.secrets["url-user"]+":"+v.secrets[what])...), func(form string) bool {
			return strings.Contains(v.files.seen.String(), form)
		}) {
			t.Errorf("the payload host did not see the secret %s: this test cannot fail", what)
		}
	}
	redirected := "http://u:" + url.QueryEscape(v.secrets["redirect"]) + "@" + v.files.host() + "/r?sig=" + url.QueryEscape(v.secrets["redirect"])
	answers := slices.Concat(malformed()[:9], []http.HandlerFunc{
		echo(401, "WWW-Authenticate", "Basic realm=SHOWN"), echo(403), echo(404), echo(410), echo(416), echo(429, "Retry-After", "SHOWN"), echo(500),
		echo(200, "Content-Encoding", "SHOWN"), echo(206, "Content-Range", "SHOWN"), echo(200), echo(302, "Location", redirected),
		echo(302, "Location", strings.Replace(redirected, "http:", "ftp:", 1)), echo(302, "Location", "http://[SHOWN"), echo(302, "Location", "http://h:SHOWN/")})
	for i, answer := range answers {
		v.files.turn(answer)
		attempt(fmt.Sprint("answer ", i), true, nil)
	}
	v.files.turn(nil)
	s2 := v.secrets
	user := url.UserPassword(s2["url-user"], s2["url-password"]).String()
	query := "?sig=" + url.QueryEscape(s2["url-query"])
	for _, codebase := range []string{
		"http://" + user + "@127.0.0.1:1/x" + query, "https://" + user + "@" + v.files.host() + "/x" + query, "ftp://" + user + "@h.example/x" + query,
		"http://" + user + "@[bad/x" + query, "http://" + user + "@h.example:x/" + query, "//" + user + "@h.example/" + query, "http://" + user + "@/" + query,
		"oci://" + user + "@registry.example/ns/app" + query,
	} {
		attempt(codebase, true, func(r *testserver.Release) { r.Codebases = []string{codebase} })
		attempt(codebase+" alone", true, func(r *testserver.Release) {
			r.Codebases, r.Files[0].Name, r.Files[0].ContentType = []string{codebase}, "", ""
		})
	}
	attempt("metadata", true, func(r *testserver.Release) {
		r.Codebases, r.Files[0].ContentType, r.Files[0].Metadata = []string{"registry.example/ns/app:1"}, imageType, `{"digest":"`+s2["metadata"]+`"}`
	})
	attempt("metadata of no JSON", true, func(r *testserver.Release) {
		r.Codebases, r.Files[0].ContentType, r.Files[0].Metadata = []string{"registry.example/ns/app:1"}, imageType, s2["metadata"]
	})
	named := func(name string) func(*testserver.Release) {
		return func(r *testserver.Release) { r.Codebases, r.Files[0].Name = []string{v.files.URL}, name }
	}
	for _, name := range []string{"app.bin?sig=" + url.QueryEscape(s2["name-query"]), "http://" + user + "@" + v.files.host() + "/app.bin?sig=" + url.QueryEscape(s2["name-query"])} {
		attempt("a name with a query", false, named(name))
		v.files.turn(echo(404))
		attempt("a name with a query that fails", true, named(name))
		v.files.turn(nil)
	}
	attempt("another hash", true, func(r *testserver.Release) { r.Files[0].SHA1 = testserver.SHA1Base64([]byte("x")) })
	attempt("another size", true, func(r *testserver.Release) { r.Files[0].Size = 3 })
	s.stop()
	v.end()
}

func TestSecrets_whileRegistriesFail(t *testing.T) {
	v := commit(t)
	reg := testregistry.New()
	img := reg.PushImage("ns/app", "linux/amd64", layer(1, 1000))
	locked := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != v.secrets["registry-password"] {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		reg.ServeHTTP(w, r)
	})
	v.images = newTurncoat(t, locked)
	g := v.world.group(appA)
	v.open()
	s := v.world.updates(v.client)
	basic := func(answer http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if _, _, ok := r.BasicAuth(); !ok {
				w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			answer(w, r)
		}
	}
	tokens := newTurncoat(t, http.NotFoundHandler())
	bearer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+tokens.URL+`/token?sig=`+url.QueryEscape(v.secrets["redirect"])+`",service="s",scope="repository:ns/app:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	complaint := func(status int) http.HandlerFunc {
		return words(func(w http.ResponseWriter, word string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q,"detail":%q}],"token":1}`, word, word)
		})
	}
	n := 1
	attempt := func(fails bool) {
		t.Helper()
		n++
		r := testserver.Release{Version: fmt.Sprintf("%d.0.0", n), Image: "oci://" + v.images.host() + "/ns/app@" + img.Manifest.Digest.String()}
		g.Publish(r)
		v.look(v.client.CheckNow(t.Context()))
		if !fails {
			o := s.next()
			v.in("an offer's payloads", fmt.Sprintf("%+v", o.Payloads))
			v.look(o.Ack(nil))
			v.world.reaches(appA, testserver.Complete)
			return
		}
		v.world.wait("a failure", func() bool {
			i := v.world.instance(appA)
			return i.Status == testserver.Error && i.GrantedVersion == r.Version
		})
		v.look()
	}
	for _, status := range []int{200, 400, 401, 403, 404, 500, 503} {
		for range 2 {
			v.images.turn(basic(complaint(status)))
			attempt(true)
			v.images.turn(bearer)
			tokens.turn(complaint(status))
			attempt(true)
		}
	}
	for _, answer := range malformed()[:9] {
		v.images.turn(basic(answer))
		attempt(true)
		v.images.turn(bearer)
		tokens.turn(answer)
		attempt(true)
	}
	v.images.turn(basic(echo(302, "Location", "http://"+tokens.host()+"/x?sig="+url.QueryEscape(v.secrets["redirect"]))))
	attempt(true)
	v.images.turn(nil)
	attempt(false)
	s.stop()
	v.end()
}
