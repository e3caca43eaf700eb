package secrets_test

import (
	"encoding/base64"
	"errors"
	"fmt"
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

// A server, or who shortens its words, may show a part of a secret; in upper or lower case, and at an end.
func TestSet_hidesPieces(t *testing.T) {
	const token = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0LXRva2Vu"
	var s secrets.Set
	s.AddHeader("Bearer " + token)
	s.AddURL(&url.URL{RawQuery: "X-Amz-Signature=0a1b2c3d4e5f&response-type=text&justatoken"})
	for in, want := range map[string]string{
		"a " + token + " b":                        "a … b",
		"a " + strings.ToLower(token) + " b":       "a … b",
		"a " + strings.ToUpper(token) + " b":       "a … b",
		`charset "` + token[:17] + `…"`:            `charset "……"`,
		`port ":` + token[10:18] + `"`:             `port ":…"`,
		"seven: " + token[10:17]:                   "seven: " + token[10:17], // as much as chance may bring
		"0A1B2C3D in a page":                       "… in a page",
		"JUSTATOKE":                                "…",
		"HTTP response: SignatureDoesNotMatch":     "HTTP response: SignatureDoesNotMatch", // a query's names are none
		"x-amz-signature=0a1b2c3d4e5f&response-ty": "x-amz-signature=…&response-ty",
		token + token + "," + token[:30]:           "…,…",
	} {
		if got := s.Hide(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"cut at " + token[:20]:   "cut at …",
		"cut at " + token[:7]:    "cut at …",
		"cut at " + token[:1]:    "cut at …",
		"cut at Bear":            "cut at …",
		"cut at X-AMZ-Sig":       "cut at …",
		"cut " + token[:7] + "?": "cut " + token[:7] + "?",
		token:                    "…",
		"":                       "",
	} {
		if got := s.HideCut(in); got != want {
			t.Errorf("%q, cut off, became %q, want %q", in, got, want)
		}
	}
}

// Quoted by strconv, as net/http does it, a secret looks otherwise.
func TestSet_hidesTheQuoted(t *testing.T) {
	const password = `pass"wor\d`
	var s secrets.Set
	s.AddUser(url.UserPassword("", password))
	if got := s.Hide(fmt.Sprintf("malformed HTTP response %q", password)); got != `malformed HTTP response "…"` {
		t.Errorf("got %q", got)
	}
}

// Secrets that are added after the first text are hidden, too.
func TestSet_addLater(t *testing.T) {
	var s secrets.Set
	s.Add("first")
	if got := s.Hide("first second"); got != "… second" {
		t.Errorf("got %q", got)
	}
	s.Add("second")
	if got := s.Hide("first second"); got != "… …" {
		t.Errorf("got %q", got)
	}
}

// What is taken out of a URL may be a part of a secret: its rest must not stay.
func TestSet_textWithURLs(t *testing.T) {
	var s secrets.Set
	s.Add("head?tail")
	if got := s.Text("read head?tail from https://joe:pw@h.example/x?y=1 now"); got != "read … from https://…h.example/x… now" {
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
