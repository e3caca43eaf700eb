package omaha_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

// signingServer has an update of the app "a", and signs under the id "1".
func signingServer(t testing.TB, key *ecdsa.PrivateKey, opts ...testserver.Option) *testserver.Server {
	t.Helper()
	ts := testserver.New(append(opts, testserver.WithSigner("1", key))...)
	ts.AddGroup("a", "stable", testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{
		Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: []byte("x")}},
	})
	if err := ts.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ts.Close)
	return ts
}

// asking is a client of ts that wants one of these keys' signature, ids "1" and up, and tries twice.
func asking(t testing.TB, endpoint string, keys ...*ecdsa.PrivateKey) *omaha.Client {
	t.Helper()
	c := &omaha.Client{Endpoint: endpoint, RetryMax: 1, RetryWaitMin: time.Millisecond, RetryWaitMax: time.Millisecond}
	for i, key := range keys {
		c.CUPKeys = append(c.CUPKeys, omaha.CUPKey{ID: string(rune('1' + i)), Key: &key.PublicKey})
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestClient_CUPKeys(t *testing.T) {
	key, other := newKey(t), newKey(t)
	tape := &testserver.Tape{}
	for _, tt := range []struct {
		name  string
		fault testserver.Fault
		says  string // "" for an answer that is believed
	}{
		{"signed", testserver.Fault{}, ""},
		{"in a weak ETag", testserver.ProofInETag(true), ""},
		{"in a strong ETag", testserver.ProofInETag(false), ""},
		{"with another content type", testserver.Fault{ContentType: "text/html; charset=utf-16"}, ""},
		{"no proof", testserver.Unsigned(), "it has none"},
		{"wrong key", testserver.SignedBy(other, ""), "signature is wrong"},
		{"wrong key id", testserver.SignedBy(key, "2"), "signature is wrong"},
		{"changed", testserver.Changed("2.0.0", "6.6.6"), "signature is wrong"},
		{"invented", testserver.Invented(noUpdate), "it has none"},
		{"emptied", testserver.Fault{Underway: func(testserver.Request, http.Header, []byte) []byte { return nil }}, "it is empty"},
		{"too large", testserver.Huge(1 << 21), "too large"},
		{"in an unknown encoding", testserver.Extra("Content-Encoding", "br"), `content encoding "br"`},
		{"an old answer", tape.Play(), "saw another request"},
		{"a page", testserver.HTMLPage(), "it has none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts := signingServer(t, key)
			c := asking(t, ts.URL(), key)
			ts.Fail(1, tape.Record())
			if _, err := c.Do(context.Background(), checkFor("a")); err != nil {
				t.Fatal(err)
			}
			ts.Fail(-1, tt.fault)
			resp, err := c.Do(context.Background(), checkFor("a"))
			if tt.says == "" {
				if err != nil || len(resp.Apps[0].Manifests) != 1 {
					t.Fatalf("got %+v, %v", resp, err)
				}
				return
			}
			answer := asAnswer(t, err)
			if !errors.Is(err, omaha.ErrUnsigned) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), `key "1"`) {
				t.Errorf("got %v; want ErrUnsigned, %q", err, tt.says)
			}
			if answer.Final() || answer.Code != omaha.ExitResponseInvalid || omaha.CodeOf(errors.Unwrap(err)) != omaha.ExitResponseInvalid {
				t.Errorf("final %v, code %v", answer.Final(), answer.Code)
			}
			requests := ts.Requests()
			if len(requests) != 3 {
				t.Fatalf("%d requests; want a second attempt", len(requests))
			}
			seen := map[string]bool{}
			for _, r := range requests {
				u, err := url.Parse(r.Path)
				if err != nil {
					t.Fatal(err)
				}
				seen[u.Query().Get("cup2key")], seen[u.Query().Get("cup2hreq")] = true, true
			}
			if len(seen) != 6 {
				t.Errorf("nonces and hashes %v; want new ones for each attempt", seen)
			}
		})
	}
}

// With keys no header of any answer delays anything, signed or not; without keys it does.
func TestClient_CUPKeys_noDelays(t *testing.T) {
	key := newKey(t)
	headers := []string{"Retry-After", "86400", "X-Retry-After", "86400"}
	unsigned := testserver.Unsigned()
	unsigned.Header = http.Header{"Retry-After": {"86400"}}
	for _, tt := range []struct {
		name  string
		fault testserver.Fault
	}{
		{"signed answer", testserver.Extra(headers...)},
		{"unsigned answer", unsigned},
		{"503", testserver.StatusFault(503, headers...)},
		{"404", testserver.StatusFault(404, headers...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts := signingServer(t, key)
			ts.Fail(-1, tt.fault)
			resp, err := asking(t, ts.URL(), key).Do(context.Background(), checkFor("a"))
			var delay time.Duration
			if err != nil {
				delay = asAnswer(t, err).RetryAfter
			} else {
				delay = resp.RetryAfter
			}
			if delay != 0 {
				t.Errorf("delay %v", delay)
			}
			if tt.name == "503" && len(ts.Requests()) != 2 {
				t.Errorf("%d requests; want no wish of the answer to end the call", len(ts.Requests()))
			}
			resp, err = asking(t, ts.URL()).Do(context.Background(), checkFor("a"))
			if err != nil {
				delay = asAnswer(t, err).RetryAfter
			} else {
				delay = resp.RetryAfter
			}
			if delay != 24*time.Hour {
				t.Errorf("delay without keys %v", delay)
			}
		})
	}
}

// With keys no status is taken for the last word: whoever can change answers could end a program's checks and reports with it.
func TestClient_CUPKeys_statuses(t *testing.T) {
	key := newKey(t)
	for name, fault := range map[string]testserver.Fault{
		"404":      testserver.StatusFault(404),
		"403":      testserver.StatusFault(403),
		"501":      testserver.StatusFault(501),
		"503":      testserver.StatusFault(503),
		"redirect": testserver.StatusFault(302, "Location", "http://other.example/"),
	} {
		t.Run(name, func(t *testing.T) {
			ts := signingServer(t, key)
			ts.Fail(1, fault)
			if _, err := asking(t, ts.URL(), key).Do(context.Background(), checkFor("a")); err != nil {
				t.Errorf("once only: %v", err)
			}
			ts.Fail(-1, fault)
			_, err := asking(t, ts.URL(), key).Do(context.Background(), checkFor("a"))
			answer := asAnswer(t, err)
			if answer.Final() || !errors.Is(err, omaha.ErrUnsigned) || answer.Code != omaha.ExitHTTPBase+omaha.ExitCode(answer.StatusCode) || len(ts.Requests()) != 4 {
				t.Errorf("final %v, code %d, %d requests: %v", answer.Final(), answer.Code, len(ts.Requests()), err)
			}
			saysAll(t, err, "unsigned")
			if name == "503" {
				return
			}
			if _, err := asking(t, ts.URL()).Do(context.Background(), checkFor("a")); !asAnswer(t, err).Final() || errors.Is(err, omaha.ErrUnsigned) {
				t.Errorf("without keys: %v", err)
			}
		})
	}
}

// A client with a new key first gets on with a server that has the old one only, and the other way round.
func TestClient_CUPKeys_rotation(t *testing.T) {
	former, latter := newKey(t), newKey(t)
	for _, tt := range []struct {
		name     string
		opts     []testserver.Option // beside key "1"
		requests int
	}{
		{"old server", nil, 2},
		{"server with both", []testserver.Option{testserver.WithSigner("2", latter)}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ts := signingServer(t, former, tt.opts...)
			c := asking(t, ts.URL())
			c.CUPKeys = []omaha.CUPKey{{ID: "2", Key: &latter.PublicKey}, {ID: "1", Key: &former.PublicKey}}
			resp, err := c.Do(context.Background(), checkFor("a"))
			if err != nil || len(resp.Apps[0].Manifests) != 1 || len(ts.Requests()) != tt.requests {
				t.Errorf("%+v, %v after %d requests; want %d", resp, err, len(ts.Requests()), tt.requests)
			}
			c = asking(t, ts.URL())
			c.CUPKeys = []omaha.CUPKey{{ID: "3", Key: &latter.PublicKey}}
			if _, err := c.Do(context.Background(), checkFor("a")); err == nil || asAnswer(t, err).StatusCode != 400 || asAnswer(t, err).Final() {
				t.Errorf("a key that the server does not have: %v", err)
			}
		})
	}
}

// A redirect within the host is followed, and its target asked for the proof; cookies of an answer are not kept.
func TestClient_CUPKeys_redirectsAndCookies(t *testing.T) {
	key := newKey(t)
	var mu sync.Mutex
	var cookies []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		cookies = append(cookies, r.Header.Get("Cookie"))
		http.SetCookie(w, &http.Cookie{Name: "evil", Value: "1"})
		if r.URL.Path == "/v1/update/" {
			http.Redirect(w, r, "/other?x=1&cup2key=1:mine", http.StatusTemporaryRedirect)
			return
		}
		if r.URL.Query().Get("x") != "1" {
			t.Errorf("URL %s", r.URL)
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/xml")
		w.Header().Set("Content-Encoding", "gzip") // what is signed is what was compressed
		w.Header().Set("X-Cup-Server-Proof", testserver.Proof(key, r.URL.Query().Get("cup2key"), body, []byte(noUpdate)))
		zw := gzip.NewWriter(w)
		io.Copy(zw, bytes.NewReader([]byte(noUpdate)))
		zw.Close()
	}))
	defer srv.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	host, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(host, []*http.Cookie{{Name: "mine", Value: "1"}})
	c := asking(t, srv.URL, key)
	c.HTTP = &http.Client{Transport: srv.Client().Transport, Jar: jar}
	for range 2 {
		if resp, err := c.Do(context.Background(), checkFor("a")); err != nil || !resp.Apps[0].NoUpdate {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(cookies, ",") != "mine=1,mine=1,mine=1,mine=1" || len(jar.Cookies(host)) != 1 {
		t.Errorf("cookies sent %v, kept %v", cookies, jar.Cookies(host))
	}
}
