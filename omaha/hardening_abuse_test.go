package omaha_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/omaha"
)

// These run over real sockets, with the Client's own transport.

// Documents that are built to exhaust who reads them end as an error, having cost little.
func TestClient_bombsOverTheNetwork(t *testing.T) {
	repeated := func(s string) string { return strings.Repeat(s, (1<<20-2000)/len(s)) }
	in := func(s string) string {
		return `<response protocol="3.0"><app appid="a" status="ok">` + s + `</app></response>`
	}
	laughs := "<!DOCTYPE lolz [<!ENTITY lol0 \"lol\">"
	for i := range 9 {
		laughs += fmt.Sprintf("<!ENTITY lol%d \"%s\">", i+1, strings.Repeat(fmt.Sprintf("&lol%d;", i), 10))
	}
	for name, body := range map[string]string{
		"billion laughs":        laughs + `]><response>&lol9;</response>`,
		"entity in a comment":   `<!--<!DOCTYPE r>--><!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><response>&a;</response>`,
		"parameter entity":      `<!DOCTYPE r [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x"> %x;]><response/>`,
		"nothing but brackets":  repeated("<"),
		"nothing but openings":  repeated("<a>"),
		"deep and closed":       in(strings.Repeat("<a>", 100_000) + strings.Repeat("</a>", 100_000)),
		"deep in quotes":        in(strings.Repeat(`<a b=">">`, 50_000)),
		"one endless attribute": in(`<a b="` + repeated("x")),
		"many attributes":       in(`<a ` + repeated(`b="" `) + `/>`),
		"attributes of a close": in(`</a ` + repeated(`b="" `) + `>`),
		"many elements":         in(repeated("<a/>")),
		"many apps":             `<response protocol="3.0">` + repeated(`<app appid="a"/>`) + `</response>`,
		"many apps at once":     `<response protocol="3.0">` + repeated(`<app appid="b" status="ok"><updatecheck status="noupdate"/></app>`) + `</response>`,
		"many events":           in(repeated(`<event status="ok"/>`)),
		"many manifests":        in(`<updatecheck status="ok">` + repeated(`<manifest version="2.0.0"/>`) + `</updatecheck>`),
		"many actions":          in(`<updatecheck status="ok"><manifest version="2"><actions>` + repeated(`<action event="postinstall"/>`) + `</actions></manifest></updatecheck>`),
		"one endless name":      repeated("<x" + strings.Repeat("y", 1<<19)),
		"namespaces":            in(repeated(`<a xmlns:b="c"/>`)),
		"a comment for ever":    in(`<!--` + repeated("-")),
		"instructions":          repeated(`<?a b?>`),
		"CDATA":                 in(repeated(`<![CDATA[]]>`)),
		"character references":  in(repeated(`&#x10FFFF;`)),
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/xml")
				io.WriteString(w, body)
			})
			c := clientOf(t, srv.URL)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			resp, err := c.Do(context.Background(), checkFor("a"))
			runtime.ReadMemStats(&after)
			// Each byte of a document may cost some hundred on its way to a tree, if the document is small; more is out of proportion.
			if cost := after.TotalAlloc - before.TotalAlloc; cost > 64<<20 {
				t.Errorf("it took %d MiB", cost>>20)
			}
			switch {
			case err != nil && !errors.Is(err, omaha.ErrTooLarge) && !errors.Is(err, omaha.ErrNotOmaha) && !errors.Is(err, omaha.ErrEmptyResponse):
				t.Errorf("error %v", err)
			case err != nil && len(err.Error()) > 1000:
				t.Errorf("a message of %d bytes", len(err.Error()))
			case err == nil && (len(resp.Apps) != 1 || resp.Apps[0].Err == nil):
				t.Errorf("taken for an answer: %+v", resp)
			}
		})
	}
}

// A header may hold nothing that harms: it is bounded, and what it asks for too.
func TestClient_headerAbuse(t *testing.T) {
	answer := "Content-Type: text/xml\r\nContent-Length: " + fmt.Sprint(len(noUpdate)) + "\r\n\r\n" + noUpdate
	for _, tt := range []struct {
		name, raw string
		ok        bool
	}{
		{"a header of 1 MiB", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n" + answer, false},
		{"100,000 headers", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: x\r\n", 100_000) + answer, false},
		{"an endless status line", "HTTP/1.1 200 " + strings.Repeat("x", 1<<20) + "\r\n" + answer, false},
		{"100,000 interim answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 100_000) + "HTTP/1.1 200 OK\r\n" + answer, false},
		{"one interim answer", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" + answer, true},
		{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + answer, false},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" + answer, false},
		{"a negative length", "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: -5\r\n\r\n" + noUpdate, false},
		{"an absurd length", "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 9223372036854775807\r\n\r\n" + noUpdate, false},
		{"a folded line", "HTTP/1.1 200 OK\r\nRetry-After: 1\r\n X-Injected: 1\r\n" + answer, true},
		{"a delay with a line break", "HTTP/1.1 200 OK\r\nRetry-After: 5\rX: 9\r\n" + answer, false},
		{"an absurd delay", "HTTP/1.1 200 OK\r\nRetry-After: 1e99\r\nX-Retry-After: 999999\r\n" + answer, true},
		{"delays without number", "HTTP/1.1 200 OK\r\n" + strings.Repeat("Retry-After: 99999999\r\n", 50) + answer, true},
		{"a date before time", "HTTP/1.1 200 OK\r\nRetry-After: Mon, 01 Jan 0001 00:00:00 GMT\r\nDate: Fri, 31 Dec 9999 23:59:59 GMT\r\n" + answer, true},
		{"a date after time", "HTTP/1.1 200 OK\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nDate: Mon, 01 Jan 0001 00:00:00 GMT\r\n" + answer, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := clientOf(t, serve(t, hijack(t, tt.raw)).URL)
			c.RetryMax = -1
			resp, err := c.Do(context.Background(), checkFor("a"))
			if (err == nil) != tt.ok {
				t.Fatalf("got %+v, %v", resp, err)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("a message of %d bytes", len(err.Error()))
			}
			if err == nil && (resp.RetryAfter < 0 || resp.RetryAfter > 24*time.Hour || !resp.Apps[0].NoUpdate) {
				t.Errorf("got %+v", resp)
			}
		})
	}
}

// A POST goes nowhere but to the endpoint's host, and not for ever.
func TestClient_redirectAbuse(t *testing.T) {
	var elsewhere atomic.Int32
	other := serve(t, func(w http.ResponseWriter, _ *http.Request) { elsewhere.Add(1); answerNoUpdate(w) })
	secret, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	var status, requests int
	var location string
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if requests++; r.URL.User != nil || r.Method != http.MethodPost {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		w.Header()["Location"] = []string{location}
		w.WriteHeader(status)
	})
	for _, status = range []int{301, 302, 303, 307, 308} {
		for _, location = range []string{
			other.URL, other.URL + "/v1/update/", strings.Replace(other.URL, "http://", "http://joe:pw@", 1), strings.Replace(other.URL, "http:", "https:", 1),
			"//" + strings.TrimPrefix(other.URL, "http://") + "/", "file:///etc/passwd", "gopher://" + secret.Addr().String(), "javascript:alert(1)", "data:text/xml,<response/>",
			"", "http://", "http:///x", "http://[::1", "\\\\" + strings.TrimPrefix(other.URL, "http://"), "http://127.0.0.1:99999/", "/again", "?again", "#again",
		} {
			requests = 0
			c := clientOf(t, srv.URL)
			c.RetryMax = -1
			c.Authorize = func(r *http.Request) error { r.Header.Set("X-Token", "hush-token"); return nil }
			_, err := c.Do(context.Background(), checkFor("a"))
			if answer := asAnswer(t, err); requests > 11 || requests == 0 || len(answer.Error()) > 1000 {
				t.Errorf("%d to %q: %d requests, %v", status, location, requests, err)
			}
			saysNone(t, err, "hush-token", "joe", "pw@")
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}
