package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What is secret in -server is in no output and no error: its user and password, Nebraska's secret at the path's end, the query.
func TestRun_showsNoSecretOfTheURL(t *testing.T) {
	missing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(missing.Close)
	nobody := refused(t)
	there := strings.TrimPrefix(missing.URL, "http://")
	for _, tc := range []struct {
		name, server string
		want         []string // in the output, or in the error; run ends with the last one
	}{
		{"refused", "http://joe:pa55word@" + nobody + "/v1/update/hidden?sig=s1gnature", []string{"asking http://" + nobody + ";", "trying again"}},
		{"answered with 404", "http://joe:pa55word@" + there + "/v1/update/hidden?sig=s1gnature", []string{"asking http://" + there + ";", "404"}},
		{"another scheme", "ftp://joe:pa55word@" + there + "/v1/update/hidden?sig=s1gnature", []string{"asking ftp://" + there + ";", "its scheme is"}},
		{"no scheme", "joe:pa55word@" + there + "/v1/update/hidden", []string{"asking the server;", "invalid option"}},
		{"no host", "http://joe:pa55word@/v1/update/hidden", []string{"asking the server;", "no host"}},
		{"a bad port", "http://joe:pa55word@127.0.0.1:port/v1/update/hidden", []string{"asking the server;", "cannot be parsed"}},
		{"a bad escape", "http://joe:pa55word@" + there + "/v1/update/hidden%zz", []string{"asking the server;", "cannot be parsed"}},
		{"a slash in the password", "http://joe:pa55/word@" + there + "/v1/update/hidden", []string{"asking the server;", "cannot be parsed"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out := &listener{want: tc.want[len(tc.want)-1], heard: cancel}
			text := ""
			if err := run(ctx, []string{"-server", tc.server, "-app", "io.example.App=1.0.0", "-dir", t.TempDir()}, out); err != nil {
				text = err.Error()
			}
			text += out.String()
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in:\n%s", want, text)
				}
			}
			for _, secret := range []string{"joe", "pa55", "word@", "hidden", "s1gnature"} {
				if strings.Contains(text, secret) {
					t.Errorf("%q is in:\n%s", secret, text)
				}
			}
		})
	}
}

func TestHostOf(t *testing.T) {
	for server, want := range map[string]string{
		"https://updates.example.com":                            "https://updates.example.com",
		"https://joe:pa55word@updates.example.com:8443/hidden?k": "https://updates.example.com:8443",
		"https://joe:5150/pa55word@updates.example.com/hidden":   "the server", // joe is no host
		"updates.example.com/hidden":                             "the server",
	} {
		if got := hostOf(server); got != want {
			t.Errorf("hostOf(%q) = %q, want %q", server, got, want)
		}
	}
}
