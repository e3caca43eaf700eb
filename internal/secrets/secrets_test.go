package secrets_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/secrets"
)

const secret = "s3cr+t/&<x>"

func TestSet_hide(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte("j&e+user:" + secret))
	req, err := http.NewRequest(http.MethodGet, "https://j%26e+user:"+url.PathEscape(secret)+"@h.example/x?sig="+url.QueryEscape("q"+secret), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic "+basic)
	req.Header.Set("X-Token", "x"+secret)
	req.Header.Set("Cookie", "a=c"+secret+"; b=d"+secret)
	req.Header.Set("User-Agent", "plain")
	proxy := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
		return &url.URL{Host: "p", User: url.UserPassword("proxy", "p"+secret)}, nil
	}, ProxyConnectHeader: http.Header{"X": {"k" + secret}}}
	var s secrets.Set
	s.AddURL(req.URL)
	s.AddHeaders(req.Header)
	s.AddProxy(proxy, req)
	for _, in := range []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), "q" + secret, "x" + secret, "c" + secret, "d" + secret, "p" + secret, "k" + secret,
		basic, "j&e+user", base64.StdEncoding.EncodeToString([]byte("proxy:p" + secret)), base64.StdEncoding.EncodeToString([]byte("x" + secret)), "s3cr+t/&amp;&lt;x&gt;",
	} {
		if got := s.Hide("<" + in + ">"); got != "<…>" {
			t.Errorf("%q became %q", in, got)
		}
	}
	if got := s.Hide("plain"); got != "plain" {
		t.Errorf("a plain header became %q", got)
	}
}

func TestSet_shortOnesAreNone(t *testing.T) {
	var s secrets.Set
	s.Add("a", "", "abc")
	s.AddUser(nil)
	if got := s.Hide("a bad abc"); got != "a bad abc" {
		t.Errorf("got %q", got)
	}
}

func TestSet_error(t *testing.T) {
	var s secrets.Set
	s.Add(secret)
	harmless := errors.New("broken pipe")
	if got := s.Error(harmless); got != harmless { //nolint:errorlint // the very same
		t.Errorf("got %v", got)
	}
	got := s.Error(&url.Error{Op: "Get", URL: "https://joe:pw@h.example/x?sig=1", Err: errors.Join(io.ErrUnexpectedEOF, errors.New(secret))})
	if !errors.Is(got, io.ErrUnexpectedEOF) || strings.Contains(got.Error(), secret) || !strings.Contains(got.Error(), `"https://…h.example/x…"`) && !strings.Contains(got.Error(), `"https://…h.example/x…`) {
		t.Errorf("got %v", got)
	}
	if s.Error(nil) != nil {
		t.Error("nil became an error")
	}
}
