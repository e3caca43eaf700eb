package omaha_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/kinvolk/go-omaha/omaha"

	"github.com/nebraska/omahaclient/omaha"
)

const noUpdate = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
	`<response protocol="3.0" server="nebraska"><app appid="a" status="ok"><updatecheck status="noupdate"/></app></response>`

// serve starts a server that lives as long as the test.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return srv
}

// clientOf returns a client with short waits and a transport of its own, closed at the end.
func clientOf(t *testing.T, endpoint string) *omaha.Client {
	t.Helper()
	c := &omaha.Client{Endpoint: endpoint, RetryWaitMin: time.Millisecond, RetryWaitMax: 2 * time.Millisecond}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func answerNoUpdate(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/xml")
	io.WriteString(w, noUpdate)
}

func TestClient_Validate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		client *omaha.Client
		says   []string // none: valid
	}{
		{"endpoint alone", &omaha.Client{Endpoint: endpoint}, nil},
		{"http", &omaha.Client{Endpoint: "http://localhost:8000"}, nil},
		{"everything", &omaha.Client{Endpoint: endpoint, Version: "my app/1", RetryWaitMin: 1, RetryWaitMax: 1, RetryMax: -1}, nil},
		{"nothing", &omaha.Client{}, []string{"endpoint", "absolute URL"}},
		{"version with a line break", &omaha.Client{Endpoint: endpoint, Version: "a\nb"}, []string{"printable ASCII"}},
		{"endless version", &omaha.Client{Endpoint: endpoint, Version: strings.Repeat("x", 65)}, []string{"64"}},
		{"syncer", &omaha.Client{Endpoint: endpoint, Version: "CoreOSUpdateEngine-0.1.0.0"}, []string{"another Nebraska"}},
		{"negative wait", &omaha.Client{Endpoint: endpoint, RetryWaitMin: -1}, []string{"retry waits"}},
		{"waits the wrong way round", &omaha.Client{Endpoint: endpoint, RetryWaitMin: 2, RetryWaitMax: 1}, []string{"retry waits"}},
		{"all at once", &omaha.Client{Version: "\n", RetryWaitMax: -1}, []string{"endpoint", "printable", "retry waits"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.client.Validate()
			if (err == nil) != (tt.says == nil) {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				return
			}
			saysAll(t, err, tt.says...)
			_, err = tt.client.Do(context.Background(), checkFor("a"))
			if answer := asAnswer(t, err); !answer.Final() || answer.Code != omaha.ExitOmahaRequest {
				t.Errorf("Do: %v", err)
			}
			saysAll(t, err, tt.says...)
		})
	}
	t.Run("secrets stay secret", func(t *testing.T) {
		for _, e := range []string{"ftp://me:hush@h.example/?q=hush", "https://me:hush@h .example/?hush", "me:hush@h.example", "https://me:hush@:80/?hush", "https://h.example:hush@x:y/",
			"https://h.example:hush/", "me:hush", "h.example:hush/v1/update/", "https://me:hu/hush@h.example/", "h.example/v1/update/hush", "//h.example/v1/update/hush",
			"ftp://h.example/v1/update/hush/", " https://me:hush@h.example/", "https://h.example/?hush\n", "#hush", "https://h.example/hush%zz", "h.example/v1/update/hush/"} {
			if err := (&omaha.Client{Endpoint: e}).Validate(); err == nil {
				t.Errorf("%s is valid", e)
			} else {
				saysNone(t, err, "hush")
			}
		}
	})
}

// A mistake in the endpoint is quoted as it was typed, and says what to do.
func TestClient_Validate_endpoint(t *testing.T) {
	const want = ": want an absolute URL such as https://updates.example.com/v1/update/"
	const noScheme = ": it has no scheme: add https:// in front (http:// for a server without TLS)"
	const blanks = "a blank or line break stands before or behind it: take that off"
	for _, tt := range []struct{ endpoint, says string }{
		{"", `"" is no endpoint: it is empty`},
		{"localhost:8000", `"localhost:8000" is no endpoint` + noScheme},
		{"127.0.0.1:8000/v1/update/", `"127.0.0.1:8000/v1/update/" is no endpoint` + noScheme},
		{"updates.example.com/v1/update", `"updates.example.com/v1/update" is no endpoint` + noScheme},
		{"updates.example.com:8000/v1/update/", `"updates.example.com:8000/v1/update/" is no endpoint` + noScheme},
		{"updates.example.com/v1/update/s3cret", `"updates.example.com/v1/update/…" is no endpoint` + noScheme},
		{"://nope", `"://nope" is no endpoint: it has no scheme: add https in front (http for a server without TLS)`},
		{"//updates.example.com/", `"//updates.example.com/" is no endpoint: it has no scheme: add https: in front (http: for a server without TLS)`},
		{"joe:pw@updates.example.com", `what is given is no endpoint` + noScheme},
		{"[::1]:8000", `what is given is no endpoint` + noScheme},
		{"ftp://updates.example.com/", `"ftp://updates.example.com/" is no endpoint: its scheme is "ftp", not https or http`},
		{"ftp://joe:pw@updates.example.com/", `what is given is no endpoint: its scheme is "ftp", not https or http`},
		{"https:///v1/update", `"https:///v1/update" is no endpoint: there is no host in it`},
		{"https:/updates.example.com", `"https:/updates.example.com" is no endpoint: there is no host in it`},
		{"http:", `"http:" is no endpoint: there is no host in it`},
		{" https://updates.example.com/", `"https://updates.example.com/" is no endpoint: ` + blanks},
		{"https://updates.example.com/v1/update/\n", `"https://updates.example.com/v1/update/" is no endpoint: ` + blanks},
		{"https://updates example.com/", `"https://updates example.com/" is no endpoint: it has a blank or line break in it: take that out, or escape it (%20 for a blank)`},
		{"https://joe:p w@updates.example.com/", `what is given is no endpoint: it has a blank or line break in it: take that out, or escape it (%20 for a blank)`},
		{
			"https://joe:5150/secret@updates.example.com/v1/update/",
			`what is given is no endpoint: an @ stands in its path: write a slash in its user or password as %2F, and an @ of the path as %40`,
		},
		{"https://joe:p/w@updates.example.com/", `what is given is no endpoint: it cannot be parsed: escape (%2F for a slash) what is special in its user, password or query`},
		{"https://[::1/", `what is given is no endpoint: it cannot be parsed: are its host and port right?`},
		{"https://updates.example.com:port/", `what is given is no endpoint: it cannot be parsed: are its host and port right?`},
		{"https://updates.example.com:65536/", `"https://updates.example.com:65536/" is no endpoint: its port is not 1 to 65535`},
		{"https://updates.example.com:99x/", `what is given is no endpoint: it cannot be parsed: are its host and port right?`},
	} {
		if err := (&omaha.Client{Endpoint: tt.endpoint}).Validate(); err == nil || err.Error() != tt.says+want {
			t.Errorf("%q:\ngot  %v\nwant %s", tt.endpoint, err, tt.says+want)
		}
	}
	for _, good := range []string{"HTTPS://updates.example.com", "http://[::1]:8000", "http://[::1]:65535/a%40b", "https://joe:p%2Fw@updates.example.com/a b", "https://updates.example.com/?a=b c"} {
		if err := (&omaha.Client{Endpoint: good}).Validate(); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// What is too much for a server is named with its size, and otherwise not spoken of.
func TestClient_adviceOnSize(t *testing.T) {
	for apps, says := range map[int]string{1: "is the endpoint's path right?", 2000: "ask about fewer apps at once"} {
		req := checkFor("a")
		for range apps - 1 {
			req.Apps = append(req.Apps, req.Apps[0])
		}
		_, err := answering(400, nil, "").Do(context.Background(), req)
		saysAll(t, err, says)
		saysNone(t, err, "Split", "Authorize")
	}
}

// A server that expects TLS says so in several ways.
func TestClient_adviceOnTLS(t *testing.T) {
	for _, body := range []string{
		"Client sent an HTTP request to an HTTPS server.\n",
		"<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>",
		"<p>Your browser sent a request that this server could not understand.<br />\nReason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
	} {
		c := answering(400, nil, body)
		_, err := c.Do(context.Background(), checkFor("a"))
		saysNone(t, err, "speaks TLS")
		c.Endpoint = strings.Replace(endpoint, "https:", "http:", 1)
		_, err = c.Do(context.Background(), checkFor("a"))
		saysAll(t, err, "the server speaks TLS there: the endpoint must begin with https://")
		saysNone(t, err, "path", "64 KiB", "bytes")
	}
}

func TestClient_noApps(t *testing.T) {
	_, err := answering(200, xmlType(), noUpdate).Do(context.Background(), &omaha.Request{})
	saysAll(t, asAnswer(t, err), "no app")
}

func TestClient_request(t *testing.T) {
	for _, tt := range []struct{ name, path, want string }{
		{"no path", "", "/v1/update/"},
		{"root", "/", "/"},
		{"a path", "/omaha", "/omaha"},
		{"a query", "/omaha?key=1", "/omaha?key=1"},
		{"a fragment", "/omaha#x", "/omaha"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				doc, err := wire.ParseRequest(r.Header.Get("Content-Type"), r.Body)
				if err != nil || len(doc.Apps) != 1 {
					t.Errorf("request %+v: %v", doc, err)
				}
				if r.Method != "POST" || r.URL.String() != tt.want || r.ContentLength <= 0 {
					t.Errorf("%s %s, length %d", r.Method, r.URL, r.ContentLength)
				}
				if got := r.Header.Get("Content-Type"); got != "text/xml; charset=utf-8" {
					t.Errorf("content type %q", got)
				}
				if got := r.Header.Get("User-Agent"); got != doc.Version || got != "test-1" {
					t.Errorf("user agent %q, version %q", got, doc.Version)
				}
				answerNoUpdate(w)
			})
			c := clientOf(t, srv.URL+tt.path)
			c.Version = "test-1"
			resp, err := c.Do(context.Background(), checkFor("a"))
			if err != nil || !resp.Apps[0].NoUpdate {
				t.Errorf("got %+v, %v", resp, err)
			}
		})
	}
}

func TestClient_concurrentUse(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { answerNoUpdate(w) })
	c := clientOf(t, srv.URL)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.Do(context.Background(), checkFor("a")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// What comes instead of an answer is named, with advice.
func TestClient_answersThatAreNone(t *testing.T) {
	html := map[string]string{"Content-Type": "text/html; charset=utf-8"}
	none := map[string]string{}
	for _, tt := range []struct {
		name   string
		status int
		header map[string]string
		body   string
		is     error
		code   omaha.ExitCode
		final  bool
		says   []string
	}{
		{"web page", 200, html, "<!DOCTYPE html>\n<html><title>Nebraska</title>", omaha.ErrNotOmaha, 31, true, []string{"web page", "text/html", "Nebraska", "/v1/update/"}},
		{"web page that claims to be XML", 200, xmlType(), "<!doctype HTML><html>", omaha.ErrNotOmaha, 31, true, []string{"web page"}},
		{"XHTML", 200, map[string]string{"Content-Type": "application/xhtml+xml"}, `<?xml version="1.0"?><html xmlns="x"/>`, omaha.ErrNotOmaha, 31, true, []string{"<html>"}},
		{"empty", 200, xmlType(), "", omaha.ErrEmptyResponse, 30, true, []string{"empty", "/v1/update/"}},
		{"blank", 200, none, " \r\n\t", omaha.ErrEmptyResponse, 30, true, []string{"empty"}},
		{"no content", 204, none, "", omaha.ErrEmptyResponse, 30, true, []string{"HTTP 204"}},
		{"XML declaration alone", 200, xmlType(), `<?xml version="1.0" encoding="UTF-8"?>`, omaha.ErrEmptyResponse, 30, true, []string{"cannot read the request"}},
		{"JSON", 200, map[string]string{"Content-Type": "application/json"}, `{"error":"x"}`, omaha.ErrNotOmaha, 31, true, []string{"application/json", `{\"error\":\"x\"}`}},
		{"Omaha as plain text", 200, map[string]string{"Content-Type": "text/plain"}, noUpdate, omaha.ErrNotOmaha, 31, true, []string{"text/plain"}},
		{"broken content type", 200, map[string]string{"Content-Type": ";;"}, noUpdate, omaha.ErrNotOmaha, 31, true, []string{"content type"}},
		{"another charset", 200, map[string]string{"Content-Type": "text/xml; charset=utf-16"}, noUpdate, omaha.ErrNotOmaha, 31, true, []string{"utf-16"}},
		{"another document", 200, xmlType(), `<rss version="2.0"></rss>`, omaha.ErrNotOmaha, 31, true, []string{"<rss>", "/v1/update/"}},
		{"another protocol", 200, xmlType(), `<response protocol="2.0"/>`, omaha.ErrNotOmaha, 34, true, []string{"2.0"}},
		{"broken XML", 200, xmlType(), `<response protocol="3.0"><app></response>`, omaha.ErrNotOmaha, 31, true, []string{"broken XML in line 1"}},
		{"unknown compression", 200, map[string]string{"Content-Type": "text/xml", "Content-Encoding": "br"}, "\x8b\x02", omaha.ErrNotOmaha, 31, true, []string{`"br"`}},
		{"claims to be compressed", 200, map[string]string{"Content-Type": "text/xml", "Content-Encoding": "gzip"}, noUpdate, omaha.ErrNotOmaha, 31, true, []string{"compressed"}},
		{"bad request", 400, none, "", nil, 2400, true, []string{"HTTP 400", "/v1/update/"}},
		{"unauthorized", 401, none, "", nil, 2401, true, []string{"credentials"}},
		{"forbidden", 403, html, "<h1>no</h1>", nil, 2403, true, []string{"credentials", "authorization header", "<h1>no</h1>"}},
		{"not found", 404, html, "<h1>404</h1>", nil, 2404, true, []string{"not found", "/v1/update/"}},
		{"method not allowed", 405, none, "", nil, 2405, true, []string{"/v1/update/"}},
		{"proxy", 407, none, "", nil, 2407, true, []string{"proxy"}},
		{"too large", 413, none, "", nil, 2413, true, []string{"fewer apps"}},
		{"wrong secret", 501, none, "", nil, 2501, true, []string{"secret"}},
		{"not modified", 304, none, "", nil, 2304, true, []string{"HTTP 304"}},
		{"unknown status", 299 + 300, none, "", nil, 2599, true, []string{"unknown status"}},
		{"request timeout", 408, none, "", nil, 2408, false, []string{"HTTP 408"}},
		{"too many requests", 429, none, "", nil, 2429, false, []string{"HTTP 429"}},
		{"internal error", 500, none, "oops", nil, 2500, false, []string{"HTTP 500", "oops"}},
		{"bad gateway", 502, none, "", nil, 2502, false, []string{"HTTP 502"}},
		{"unavailable", 503, none, "", nil, 2503, false, []string{"HTTP 503"}},
		{"gateway timeout", 504, none, "", nil, 2504, false, []string{"HTTP 504"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := answering(tt.status, tt.header, tt.body).Do(context.Background(), checkFor("a"))
			answer := asAnswer(t, err)
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is no %v", err, tt.is)
			}
			if answer.Code != tt.code || omaha.CodeOf(err) != tt.code || answer.Final() != tt.final || answer.StatusCode != tt.status ||
				answer.Endpoint != endpoint || answer.ContentType != tt.header["Content-Type"] {
				t.Errorf("got %+v", answer)
			}
			saysAll(t, err, append(tt.says, endpoint)...)
			saysNone(t, err, "EOF", "\n", "\x8b")
		})
	}
}

// Nothing secret may show in an error or log line, wherever a server or a library repeats it.
func TestClient_secrets(t *testing.T) {
	const query, password, path, token, cookie = "QUERYSECRET", "PASSSECRET", "PATHSECRET", "TOKENSECRET", "COOKIESECRET"
	target := "https://user:" + password + "@updates.example.com/v1/update/" + path + "?key=" + query
	jar, _ := cookiejar.New(nil)
	u, _ := url.Parse(target)
	jar.SetCookies(u, []*http.Cookie{{Name: "c", Value: cookie}})
	echo := func(r *http.Request) string {
		var b bytes.Buffer
		b.WriteString(r.URL.String() + "\n")
		r.Header.Write(&b)
		return b.String()
	}
	for _, tt := range []struct {
		name   string
		answer transport
	}{
		{"echoed in a page", func(r *http.Request) (*http.Response, error) {
			return response(r, 200, map[string]string{"Content-Type": "text/html"}, echo(r)), nil
		}},
		{"echoed with a status", func(r *http.Request) (*http.Response, error) {
			return response(r, 503, map[string]string{"Content-Type": "text/plain; " + echo(r)}, echo(r)), nil
		}},
		{"repeated alone", func(r *http.Request) (*http.Response, error) {
			return response(r, 403, nil, "neither "+token+" nor "+password+" nor "+query+" nor "+path), nil
		}},
		{"in a network error", func(r *http.Request) (*http.Response, error) { return nil, errors.New("dial " + echo(r)) }},
		{"in a proxy's error", func(r *http.Request) (*http.Response, error) {
			return nil, errors.New(`invalid proxy address "http://u:` + password + `@p.example/?x=` + query + `"`)
		}},
		{"in a redirect", func(r *http.Request) (*http.Response, error) {
			return response(r, 307, map[string]string{"Location": "https://u:" + password + "@other.example/?key=" + query}, ""), nil
		}},
		{"in a broken redirect", func(r *http.Request) (*http.Response, error) {
			return response(r, 307, map[string]string{"Location": "https://u:" + password + "@[other.example/?key=" + query}, ""), nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			c := &omaha.Client{
				Endpoint: target, RetryMax: 1, RetryWaitMin: 1, RetryWaitMax: 1,
				HTTP:   &http.Client{Transport: tt.answer, Jar: jar},
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
				Authorize: func(r *http.Request) error {
					r.Header.Set("Authorization", "Bearer "+token)
					return nil
				},
			}
			_, err := c.Do(context.Background(), checkFor("a"))
			answer := asAnswer(t, err)
			if answer.Endpoint != "https://updates.example.com/v1/update/…" {
				t.Errorf("endpoint %q", answer.Endpoint)
			}
			text := err.Error() + answer.Err.Error() + answer.Body + answer.ContentType + log.String()
			for _, secret := range []string{query, password, path, token, cookie} {
				if strings.Contains(text, secret) {
					t.Errorf("%s shows in %s", secret, text)
				}
			}
			if strings.Contains(tt.name, "network") && !strings.Contains(log.String(), "trying again") {
				t.Error("a retry is not logged")
			}
		})
	}
}

func TestClient_HTTP_honouredAndLeftAlone(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie("c"); err == nil && cookie.Value == "1" {
			answerNoUpdate(w)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "c", Value: "1"})
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{Transport: &http.Transport{}, Jar: jar, Timeout: time.Minute}
	defer hc.CloseIdleConnections()
	before := *hc
	c := clientOf(t, srv.URL)
	c.HTTP = hc
	if _, err := c.Do(context.Background(), checkFor("a")); err != nil {
		t.Error("its cookies, set by a failed attempt, were not sent:", err)
	}
	if hc.Transport != before.Transport || hc.Jar != before.Jar || hc.Timeout != before.Timeout || hc.CheckRedirect != nil {
		t.Error("the caller's client was changed")
	}
}

// The transport may be shared: a failed request must not close connections that it keeps for others.
func TestClient_HTTP_idleConnectionsStay(t *testing.T) {
	closed := false
	c := &omaha.Client{Endpoint: endpoint, RetryMax: -1, HTTP: &http.Client{Transport: closer{&closed}}}
	if _, err := c.Do(context.Background(), checkFor("a")); err == nil {
		t.Fatal("no error")
	}
	c.CloseIdleConnections()
	if closed {
		t.Error("closed")
	}
}

type closer struct{ closed *bool }

func (c closer) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }
func (c closer) CloseIdleConnections()                           { *c.closed = true }
