package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync/atomic"

	"github.com/nebraska/omahaclient/internal/secrets"
)

// ask sends one GET to a mirror and follows its redirects. Each hop is a request of its own: nothing that Authorize, a URL's user or
// a cookie brought into one is carried into the next. The transport is used without http.Client, which does carry them.
func (d *download) ask(ctx context.Context, w *watch, m *mirror, extra http.Header) (*http.Response, error) {
	u, user := *m.url, m.url.User
	challenged := false
	for hops := 0; ; {
		resp, err := d.send(ctx, w, &u, user, extra)
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusUnauthorized:
			if d.job.Challenge == nil || challenged {
				return resp, nil
			}
			challenged = true
			err := d.job.Challenge(resp)
			discard(resp)
			if err != nil {
				return nil, fmt.Errorf("authorize at %s: %w", u.Host, err)
			}
			continue
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, nil
		}
		discard(resp)
		if hops++; hops > maxRedirects {
			return nil, finalf("more than %d redirects, the last one to %s: correct the URL on the server", maxRedirects, redact(&u))
		}
		next, err := redirectTarget(&u, resp.Header.Get("Location"))
		if err != nil {
			return nil, err
		}
		if next.Scheme != u.Scheme || next.Host != u.Host {
			user = nil
		}
		u, challenged = *next, false
	}
}

// redirectTarget resolves a Location. A user in it is ignored, as a mirror must not make us log in elsewhere.
func redirectTarget(from *url.URL, location string) (*url.URL, error) {
	ref, err := url.Parse(location)
	if err != nil || location == "" {
		return nil, finalf("redirected to nowhere: its Location is missing or no URL")
	}
	to := from.ResolveReference(ref)
	if err := checkURL(to); err != nil {
		return nil, finalf("redirected to %s: %w", redact(to), err)
	}
	if from.Scheme == "https" && to.Scheme == "http" {
		return nil, finalf("redirected from https to http (%s): refused, since anybody on the way could answer: serve it over https", redact(to))
	}
	return to, nil
}

func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("scheme %.80q is not supported: payloads come over http or https", u.Scheme)
	case u.Hostname() == "":
		return errors.New("it names no host: correct the URL on the server")
	}
	return nil
}

// send does one exchange, up to the answer's headers.
func (d *download) send(ctx context.Context, w *watch, u *url.URL, user *url.Userinfo, extra http.Header) (*http.Response, error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	target := *u
	target.User = nil
	req := (&http.Request{Method: http.MethodGet, URL: &target, Host: u.Host, Header: http.Header{}}).
		WithContext(httptrace.WithClientTrace(ctx, trace))
	for _, h := range []http.Header{d.job.Header, extra} {
		for k, v := range h {
			req.Header[k] = slices.Clone(v)
		}
	}
	if user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	if d.job.Authorize != nil {
		if err := d.job.Authorize(req); err != nil {
			return nil, fmt.Errorf("authorize at %s: %w", u.Host, err)
		}
	}
	w.expectAnswer()
	resp, err := d.transport().RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		} else {
			err = d.harmless(err, req, user)
		}
		if f := (*failure)(nil); !connected.Load() && !errors.As(err, &f) {
			return nil, &failure{class: unreachable, err: fmt.Errorf("cannot be reached: %w: check the network, the proxy and the host's name", err)}
		}
		return nil, err
	}
	return resp, nil
}

// harmless is err without what was secret in the request: net/http quotes a line of the answer that it cannot read, and there may be
// anything in that.
func (d *download) harmless(err error, req *http.Request, user *url.Userinfo) error {
	var known secrets.Set
	known.AddUser(user)
	known.AddURL(req.URL)
	known.AddHeaders(req.Header)
	known.AddProxy(d.transport(), req)
	return known.Error(err)
}

func (d *download) transport() http.RoundTripper {
	if t := d.job.Client.Transport; t != nil {
		return t
	}
	return http.DefaultTransport
}

// discard ends an answer whose body nobody wants; a short one is read, so that its connection can be used again.
func discard(resp *http.Response) {
	if resp.ContentLength >= 0 && resp.ContentLength <= 2<<10 {
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	resp.Body.Close()
}
