package omaha_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/omaha"
)

// FuzzExchange takes any bytes for a server's answer, header and body. There is an answer or an error, in bounded memory, with a
// bounded delay, and what the request had in secret is in neither.
func FuzzExchange(f *testing.F) {
	const secret = "hush-T0ken"
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
	for _, s := range []string{
		head + "\r\n" + noUpdate, head + "Retry-After: 120\r\nX-Retry-After: 99999999999999999999\r\n\r\n" + noUpdate,
		head + "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nDate: Fri, 31 Dec 1999 23:50:00 GMT\r\n\r\n" + noUpdate,
		"HTTP/1.1 503 Later\r\nRetry-After: -1\r\n\r\n" + secret, "HTTP/1.1 307 There\r\nLocation: /x?" + secret + "\r\n\r\n",
		"HTTP/1.1 302 There\r\nLocation: http://[" + secret + "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/html; a=\"" + secret + "\"\r\n\r\n<html>" + secret,
		head + "Content-Encoding: gzip\r\n\r\n" + zippedAnswer(f), head + "Content-Encoding: br\r\n\r\nx", head + "Content-Length: 9\r\n\r\n<a>",
		head + "\r\n" + `<response protocol="3.0" server="` + secret + `"><app appid="a" status="` + secret + `"/></response>`,
		head + "\r\n" + `<response protocol="3.0"><app appid="a" status="ok"><updatecheck status="HUSH-t0KEN"/></app></response>`,
		"HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=" + strings.ToUpper(secret) + "\r\n\r\n<a/>", "HTTP/1.1 302 There\r\nLocation: http://h:" + secret + "/\r\n\r\n",
		"HTTP/1.1 500 x\r\n\r\n" + strings.Repeat(" ", 4096-9) + secret, "HTTP/1.1 000 x\r\n\r\n", head + "\r\n" + `<response protocol="hush&#45;T0ken"/>`,
		head + "Transfer-Encoding: chunked\r\n\r\n4\r\n<a/>\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=latin1\r\n\r\n<a/>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := &omaha.Client{Endpoint: "https://joe:" + secret + "@updates.example.com/v1/update/?key=" + secret, RetryMax: -1}
		c.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			return http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), r)
		})}
		resp, err := c.Do(context.Background(), checkFor("a"))
		var answer *omaha.AnswerError
		switch {
		case err == nil:
			shown := resp.Server
			if app := resp.Apps[0]; app.Err != nil {
				shown += " " + app.Err.Error()
			}
			wantNone(t, shown, secret)
			if len(resp.Apps) != 1 || resp.RetryAfter < 0 || resp.RetryAfter > 24*time.Hour || len(resp.Server) > 200 {
				t.Errorf("got %+v", resp)
			}
		case !errors.As(err, &answer):
			t.Errorf("another error: %v", err)
		case answer.RetryAfter < 0 || answer.RetryAfter > 24*time.Hour || answer.Code == 0:
			t.Errorf("got %+v", answer)
		default:
			wantNone(t, err.Error(), secret, base64.StdEncoding.EncodeToString([]byte("joe:"+secret)))
		}
	})
}

// wantNone fails for a text with one of these in it, in upper or lower case: of ASCII alone, since ToLower makes a k of the Kelvin sign.
func wantNone(t *testing.T, text string, secrets ...string) {
	t.Helper()
	lower := func(s string) string {
		return strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				return r | 0x20
			}
			return r
		}, s)
	}
	for _, secret := range secrets {
		if strings.Contains(lower(text), lower(secret)) {
			t.Errorf("it shows the secret: %s", text)
		}
	}
}

// FuzzPackage offers one package, with whatever a server's administrator wrote. It becomes an offer that keeps the promises of its
// types, or an error that can be shown.
func FuzzPackage(f *testing.F) {
	f.Add("https://h.example/x", "app.bin", "7", sha1Hex, sha256Base64, "2.0.0", "binary")
	f.Add("registry.example/ns/app:1", "", "0", "", "", "v1", "application/vnd.oci.image")
	f.Add("https://h.example/?sig=a%2&file=", "a b%#?\u202e", "99999999999999999999", sha1Base64, sha256Hex, "1.2.3.4", "x/y; z")
	f.Add("EOF", "EOF EOF", "EOF", "EOF", "EOF", "EOF", "EOF")
	f.Add("", "EOF", "1", "", "", "unexpected EOF", "EOF")
	f.Add("file:///etc/", "https://u:p@h.example/../x", "-1", "AA==", "zz", "\n", "")
	f.Fuzz(func(t *testing.T, codebase, name, size, sha1, sha256, version, contentType string) {
		doc := `<response protocol="3.0"><app appid="a" status="ok"><updatecheck status="ok"><urls><url codebase="` + quoted(codebase) + `"/></urls><manifest version="` +
			quoted(version) + `"><packages><package name="` + quoted(name) + `" size="` + quoted(size) + `" hash="` + quoted(sha1) + `" hash_sha256="` + quoted(sha256) +
			`"><metadata content-type="` + quoted(contentType) + `"/></package></packages></manifest></updatecheck></app></response>`
		resp, err := omaha.ReadResponse(checkFor("a"), []byte(doc))
		if err != nil {
			checkMessage(t, err, doc)
			return
		}
		app := resp.Apps[0]
		if app.Err == nil && len(app.Manifests) != 1 {
			t.Errorf("got %+v", app)
		}
		if app.Err != nil {
			checkMessage(t, app.Err, doc)
		}
		for _, m := range app.Manifests {
			checkManifest(t, m)
		}
	})
}

func quoted(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;").Replace(strings.ToValidUTF8(s, "?"))
}

// FuzzVersions compares any two versions: the order is one, and what is normal stays so.
func FuzzVersions(f *testing.F) {
	f.Add("1.0.0", "v1.0.0-rc.1+b")
	f.Add("1.2.3.4", "01.0.0")
	f.Add("18446744073709551616.0.0", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		ab, known := omaha.CompareVersions(a, b)
		ba, again := omaha.CompareVersions(b, a)
		if known != again || ab != -ba || ab < -1 || ab > 1 || !known && ab != 0 {
			t.Errorf("%q and %q: %d %v, %d %v", a, b, ab, known, ba, again)
		}
		if normal, err := omaha.NormalizeVersion(a); err == nil {
			if twice, err := omaha.NormalizeVersion(normal); err != nil || twice != normal {
				t.Errorf("%q became %q, and that %q, %v", a, normal, twice, err)
			}
		}
	})
}

func zippedAnswer(f *testing.F) string {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if _, err := zw.Write([]byte(noUpdate)); err != nil || zw.Close() != nil {
		f.Fatal(err)
	}
	return b.String()
}
