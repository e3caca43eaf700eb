// Package secrets keeps secrets out of messages.
//
// What a server answers may show what it was sent: a proxy's error page lists the request's headers, and net/http quotes a
// header line that it cannot parse. Whoever makes an error or a log line of that lets a [Set] take out what was secret in the request.
package secrets

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const (
	// shortest keeps a secret such as "1" from blotting out a message. Shorter ones are no secrets.
	shortest = 4
	// piece is how much of a secret must not show, in bytes: a server, or who shortened its words, may have left a part of it only.
	piece = 8
	mark  = "…"
)

// Set is what must not show. The zero value has none. It is not safe for concurrent use.
type Set struct {
	secrets []secret

	// How they may be written, in lower case; see learn.
	learnt int // of secrets
	forms  []string
	whole  []string            // of forms, what is looked for as a whole
	pieces map[string]struct{} // of the other forms, each as long as piece
}

type secret struct {
	text  string
	whole bool // its pieces are none
}

// Add takes secrets. Hidden are they, and what is a piece of 8 bytes of them, in upper and lower case and in the ways in which messages
// and pages may write them: quoted, escaped for URLs, for HTML, in hexadecimal, in base64.
func (s *Set) Add(secrets ...string) {
	for _, text := range secrets {
		s.add(secret{text: text})
		if plain, err := url.PathUnescape(text); err == nil {
			s.add(secret{text: plain})
		}
	}
}

func (s *Set) add(added secret) {
	if len(added.text) >= shortest && !slices.Contains(s.secrets, added) {
		s.secrets = append(s.secrets, added)
	}
}

// AddUser takes the user and the password of a URL, alone and as basic authorization.
func (s *Set) AddUser(u *url.Userinfo) {
	if u != nil {
		password, _ := u.Password()
		s.Add(u.Username(), password, base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
}

// AddURL takes the user, the password and the query of u: of that the values, and the whole, since its names are in many messages.
func (s *Set) AddURL(u *url.URL) {
	s.AddUser(u.User)
	s.add(secret{text: u.RawQuery, whole: true})
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		_, value, found := strings.Cut(pair, "=")
		if !found {
			value = pair
		}
		s.Add(value)
	}
	for _, values := range u.Query() {
		s.Add(values...)
	}
}

// AddHeader takes a header's values: each as a whole, the credentials behind a scheme such as Bearer or Basic, and a cookie's value.
func (s *Set) AddHeader(values ...string) {
	for _, value := range values {
		scheme, credentials, found := strings.Cut(value, " ")
		if s.add(secret{text: value, whole: found}); !found {
			credentials = value
		}
		s.Add(credentials)
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

// Text returns text as Hide does, and with an ellipsis for the user and the query of each URL.
func (s *Set) Text(text string) string { return s.Hide(URLs(s.Hide(text))) }

// Error returns err with a text that shows neither a secret nor a URL's user and query; err itself where its text is harmless.
func (s *Set) Error(err error) error {
	if err == nil {
		return nil
	}
	text := s.Text(err.Error())
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
