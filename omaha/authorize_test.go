package omaha_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/omaha"
)

func TestClient_Authorize(t *testing.T) {
	attempts := 0
	c := answering(200, xmlType(), noUpdate)
	base := c.HTTP.Transport
	c.HTTP.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if got, want := r.Header.Get("Authorization"), fmt.Sprint("Bearer ", attempts); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if attempts < 3 {
			return response(r, 503, nil, ""), nil
		}
		return base.RoundTrip(r)
	})
	c.Authorize = func(r *http.Request) error {
		attempts++
		if r.Header.Get("Authorization") != "" {
			t.Error("credentials of an earlier attempt were kept")
		}
		r.Header.Set("Authorization", fmt.Sprint("Bearer ", attempts))
		return nil
	}
	if _, err := c.Do(context.Background(), checkFor("a")); err != nil || attempts != 3 {
		t.Errorf("%d attempts: %v", attempts, err)
	}
}

func TestClient_Authorize_fails(t *testing.T) {
	cause := errors.New("no token")
	calls := 0
	c := answering(200, xmlType(), noUpdate)
	c.Authorize = func(*http.Request) error { calls++; return cause }
	_, err := c.Do(context.Background(), checkFor("a"))
	if !errors.Is(err, cause) || !asAnswer(t, err).Final() || calls != 1 {
		t.Errorf("%d calls: %v", calls, err)
	}
	saysAll(t, err, "authorize")
}

// A token read from a file often ends in a line break.
func TestClient_Authorize_lineBreak(t *testing.T) {
	c := answering(200, xmlType(), noUpdate)
	c.Authorize = func(r *http.Request) error { r.Header.Set("Authorization", "Bearer hush\n"); return nil }
	_, err := c.Do(context.Background(), checkFor("a"))
	if !asAnswer(t, err).Final() {
		t.Error("not final")
	}
	saysAll(t, err, `"Authorization"`, "trim")
	saysNone(t, err, "hush")
}

func TestClient_basicAuthorization(t *testing.T) {
	c := answering(200, xmlType(), noUpdate)
	base := c.HTTP.Transport
	c.HTTP.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "p w" || r.URL.User != nil {
			t.Errorf("%q, %q, URL %s", user, password, r.URL)
		}
		return base.RoundTrip(r)
	})
	c.Endpoint = strings.Replace(endpoint, "://", "://me:p%20w@", 1)
	if _, err := c.Do(context.Background(), checkFor("a")); err != nil {
		t.Error(err)
	}
}

// A POST is sent on only by 307 and 308 to the same host, and there as a whole attempt: with its body and credentials.
func TestClient_redirects(t *testing.T) {
	for _, tt := range []struct {
		name, from string
		status     int
		to         string
		follow     bool
		says       string
	}{
		{"307 to the same host", endpoint, 307, "/other", true, ""},
		{"308 to the same host", endpoint, 308, "https://updates.example.com:443/other", true, ""},
		{"308 from http to https", "http://updates.example.com/", 308, "https://updates.example.com/other", true, ""},
		{"307 from https to http", endpoint, 307, "http://updates.example.com/other", false, "not encrypted"},
		{"307 to another host", endpoint, 307, "https://evil.example/other", false, "https://evil.example"},
		{"307 to a subdomain", endpoint, 307, "https://sub.updates.example.com/other", false, "another host"},
		{"307 to another port", endpoint, 307, "https://updates.example.com:8443/other", false, "another host or port"},
		{"301 to the same host", endpoint, 301, "/other", false, "307 and 308"},
		{"302 to a login page", endpoint, 302, "https://login.example/?back=x", false, "https://login.example"},
		{"303", endpoint, 303, "/other", false, "307 and 308"},
		{"301 from http to https", "http://updates.example.com/", 301, "https://updates.example.com/other", false, "https://updates.example.com"},
		{"another scheme", endpoint, 307, "ftp://updates.example.com/", false, "not encrypted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var hosts []string
			c := &omaha.Client{Endpoint: tt.from, RetryWaitMin: 1, RetryWaitMax: 1}
			c.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
				hosts = append(hosts, r.URL.Host)
				if r.Method != "POST" || r.Header.Get("X-Token") != "t" || r.ContentLength <= 0 {
					t.Errorf("%s with token %q, %d bytes", r.Method, r.Header.Get("X-Token"), r.ContentLength)
				}
				if r.URL.Path == "/other" {
					return response(r, 200, xmlType(), noUpdate), nil
				}
				return response(r, tt.status, map[string]string{"Location": tt.to}, "moved"), nil
			})}
			c.Authorize = func(r *http.Request) error { r.Header.Set("X-Token", "t"); return nil }
			_, err := c.Do(context.Background(), checkFor("a"))
			if tt.follow {
				if err != nil || len(hosts) != 2 {
					t.Errorf("%q: %v", hosts, err)
				}
				return
			}
			answer := asAnswer(t, err)
			if len(hosts) != 1 || !answer.Final() || answer.StatusCode != tt.status || answer.Code != omaha.ExitHTTPBase+omaha.ExitCode(tt.status) {
				t.Errorf("%q: %+v", hosts, answer)
			}
			saysAll(t, err, tt.says, "set the endpoint")
			saysNone(t, err, "back=x")
		})
	}
}

func TestClient_redirectsWithoutEnd(t *testing.T) {
	requests := 0
	c := &omaha.Client{Endpoint: endpoint, HTTP: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		requests++
		return response(r, 307, map[string]string{"Location": "/again"}, ""), nil
	})}}
	_, err := c.Do(context.Background(), checkFor("a"))
	if requests != 11 || !asAnswer(t, err).Final() {
		t.Errorf("%d requests: %v", requests, err)
	}
}

func TestClient_redirects_callersRule(t *testing.T) {
	no := errors.New("not on a Sunday")
	for _, tt := range []struct {
		name string
		rule error
		want error
	}{
		{"refuses", no, no},
		{"shows the redirect", http.ErrUseLastResponse, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := answering(307, map[string]string{"Location": "/other"}, "")
			c.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return tt.rule }
			_, err := c.Do(context.Background(), checkFor("a"))
			if answer := asAnswer(t, err); answer.StatusCode != 307 || !answer.Final() || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
