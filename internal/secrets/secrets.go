// Package secrets keeps secrets out of messages.
//
// What a server answers may show what it was sent: a proxy's error page lists the request's headers, and net/http quotes a
// header line that it cannot parse. Whoever makes an error or a log line of that lets a [Set] take out what was secret in the request.
package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const (
	// shortest keeps a secret such as "1" from blotting out a message. Shorter ones are no secrets.
	shortest = 4
	mark     = "…"
)

// Set is what must not show. The zero value has none. It is not safe for concurrent use.
type Set struct{ forms []string } // the longest first

// Add takes secrets, each with the ways in which messages and pages may write it: escaped for URLs, for HTML, in base64.
func (s *Set) Add(secrets ...string) {
	for _, secret := range secrets {
		s.add(secret)
		if plain, err := url.PathUnescape(secret); err == nil {
			s.add(plain)
		}
	}
}

func (s *Set) add(secret string) {
	if len(secret) < shortest || slices.Contains(s.forms, secret) {
		return
	}
	b := []byte(secret)
	s.forms = append(s.forms, secret, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret), hex.EncodeToString(b),
		base64.StdEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b))
	slices.SortFunc(s.forms, func(a, b string) int { return len(b) - len(a) }) // a secret may be a part of another one
	s.forms = slices.Compact(s.forms)
}

// AddUser takes the user and the password of a URL, alone and as basic authorization.
func (s *Set) AddUser(u *url.Userinfo) {
	if u != nil {
		password, _ := u.Password()
		s.Add(u.Username(), password, base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
}

// AddURL takes the user, the password and the query of u.
func (s *Set) AddURL(u *url.URL) {
	s.AddUser(u.User)
	s.Add(u.RawQuery)
	for _, values := range u.Query() {
		s.Add(values...)
	}
}

// AddHeader takes a header's values: each as a whole, the credentials behind a scheme such as Bearer or Basic, and a cookie's value.
func (s *Set) AddHeader(values ...string) {
	for _, value := range values {
		scheme, credentials, _ := strings.Cut(value, " ")
		s.Add(value, credentials)
		if pair, err := base64.StdEncoding.DecodeString(credentials); err == nil && strings.EqualFold(scheme, "basic") {
			user, password, _ := strings.Cut(string(pair), ":")
			s.Add(user, password)
		}
		for part := range strings.SplitSeq(value, ";") {
			_, cookie, _ := strings.Cut(part, "=")
			s.Add(strings.Trim(cookie, `" `))
		}
	}
}

// AddProxy takes what a transport says to the proxy that it has for req.
func (s *Set) AddProxy(transport http.RoundTripper, req *http.Request) {
	t, ok := transport.(*http.Transport)
	if !ok || t == nil || t.Proxy == nil {
		return
	}
	if u, err := t.Proxy(req); err == nil && u != nil {
		s.AddUser(u.User)
	}
	for _, values := range t.ProxyConnectHeader {
		s.AddHeader(values...)
	}
}

// AddHeaders takes the values of all headers but those that say nothing in confidence.
func (s *Set) AddHeaders(h http.Header) {
	for name, values := range h {
		switch name {
		case "Accept", "Accept-Encoding", "Content-Length", "Content-Type", "If-Range", "Range", "User-Agent":
		default:
			s.AddHeader(values...)
		}
	}
}

// Hide returns text with an ellipsis for each secret.
func (s *Set) Hide(text string) string {
	for _, form := range s.forms {
		text = strings.ReplaceAll(text, form, mark)
	}
	return text
}

// Error returns err with a text that shows neither a secret nor a URL's user and query; err itself where its text is harmless.
func (s *Set) Error(err error) error {
	if err == nil {
		return nil
	}
	text := s.Hide(URLs(err.Error()))
	if text == err.Error() {
		return err
	}
	return &hidden{text, err}
}

// hidden shows text for err, and unwraps to it.
type hidden struct {
	text string
	err  error
}

func (e *hidden) Error() string { return e.text }
func (e *hidden) Unwrap() error { return e.err }

// urlParts finds what may be secret in the URLs of a foreign message: user and password, and the query.
var urlParts = regexp.MustCompile(`(://)[^/@\s"']*@|\?[^\s"']*`)

// URLs returns text with an ellipsis for the user and the query of each URL in it.
func URLs(text string) string { return urlParts.ReplaceAllString(text, "$1"+mark) }
