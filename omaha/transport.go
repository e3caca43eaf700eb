package omaha

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	attemptTimeout = 60 * time.Second // of a whole attempt, for a client without a Timeout
	dialTimeout    = 10 * time.Second
	headerTimeout  = 30 * time.Second
	// idleTimeout keeps a connection for the reports that follow a check, but not until the next check.
	idleTimeout  = 30 * time.Second
	maxRedirects = 10
)

// httpClient returns the client for one exchange: the user's, or our own, with our own rules for redirects and
// credentials around it.
//
// The transport is wrapped also because retryablehttp closes the idle connections of its client after a failure;
// it must not close those that the user's transport keeps for others.
func (x *exchange) httpClient() *http.Client {
	hc := &http.Client{Timeout: attemptTimeout}
	if user := x.client.HTTP; user != nil {
		*hc = *user
		if hc.Timeout == 0 {
			hc.Timeout = attemptTimeout
		}
	}
	if hc.Jar != nil && len(x.client.CUPKeys) > 0 {
		hc.Jar = memoryless{hc.Jar}
	}
	hc.Transport = &courier{exchange: x, base: x.client.transport()}
	hc.CheckRedirect = x.checkRedirect
	return hc
}

// transport returns what makes the connections.
func (c *Client) transport() http.RoundTripper {
	if c.HTTP != nil {
		if c.HTTP.Transport == nil {
			return http.DefaultTransport
		}
		return c.HTTP.Transport
	}
	return c.ownTransport()
}

func (c *Client) ownTransport() *http.Transport {
	c.ownOnce.Do(func() {
		c.own = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:    dialTimeout,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ResponseHeaderTimeout:  headerTimeout,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		}
	})
	return c.own
}

// courier adds the credentials to a copy of each request that goes to the endpoint's host. On a copy, because
// net/http hands the headers of a request on to its redirects.
type courier struct {
	exchange *exchange
	base     http.RoundTripper
}

func (t *courier) RoundTrip(req *http.Request) (*http.Response, error) {
	if sameHost(t.exchange.endpoint, req.URL) {
		out := req.Clone(req.Context())
		if err := t.exchange.authorize(out); err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
		req = out
	}
	return t.base.RoundTrip(req)
}

// authorizeError ends a call: credentials that cannot be had, or sent, are not had by trying again at once.
type authorizeError struct{ err error }

func (e *authorizeError) Error() string { return "authorize: " + e.err.Error() }
func (e *authorizeError) Unwrap() error { return e.err }

func (x *exchange) authorize(req *http.Request) error {
	x.secrets.AddProxy(x.client.transport(), req)
	if user := x.user; user != nil && req.Header.Get("Authorization") == "" {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	if authorize := x.client.Authorize; authorize != nil {
		if err := authorize(req); err != nil {
			return &authorizeError{err}
		}
	}
	for name, values := range req.Header {
		for _, value := range values {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return &authorizeError{fmt.Errorf("header %q has a line break or control character: trim the credentials", name)}
			}
		}
		if _, plain := x.header[name]; !plain {
			x.secrets.AddHeader(values...)
		}
	}
	return nil
}

// redirectError ends a call: a POST is not sent on to wherever a server says.
type redirectError struct {
	to     *url.URL
	reason string
	err    error // of the user's CheckRedirect
}

func (e *redirectError) Error() string {
	return fmt.Sprintf("redirected to %s://%s, which is not followed: %s", e.to.Scheme, e.to.Host, e.reason)
}

func (e *redirectError) Unwrap() error { return e.err }

// checkRedirect follows a redirect only where it keeps the method (307, 308), the host and the encryption:
// after 301, 302 and 303 net/http sends a GET, and to that Nebraska answers its web page; another host must not
// learn what this machine is and runs. The proof of an answer (CUP) does not bind its URL.
func (x *exchange) checkRedirect(req *http.Request, via []*http.Request) error {
	refuse := func(reason string) error { return &redirectError{to: req.URL, reason: reason} }
	switch {
	case via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https":
		return refuse("it is not encrypted")
	case !sameHost(x.endpoint, req.URL):
		return refuse("it is another host or port")
	case req.Method != http.MethodPost:
		return refuse("only the statuses 307 and 308 allow to send a POST on")
	case len(via) > maxRedirects:
		return refuse(fmt.Sprintf("it is redirect number %d", len(via)))
	}
	if user := x.client.HTTP; user != nil && user.CheckRedirect != nil {
		if err := user.CheckRedirect(req, via); errors.Is(err, http.ErrUseLastResponse) {
			return http.ErrUseLastResponse
		} else if err != nil {
			return &redirectError{to: req.URL, reason: err.Error(), err: err}
		}
	}
	if x.question != nil {
		x.question.addTo(req.URL) // the target is to sign, too
	}
	return nil
}

// sameHost tells that two URLs name the same host and port; so do http and https on their default ports.
func sameHost(a, b *url.URL) bool {
	return strings.EqualFold(a.Hostname(), b.Hostname()) && explicitPort(a) == explicitPort(b)
}

func explicitPort(u *url.URL) string {
	port := u.Port()
	if u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		return ""
	}
	return port
}
