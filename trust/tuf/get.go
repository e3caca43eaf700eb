package tuf

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/nebraska/omahaclient/trust"
)

const maxRedirects = 10

// unreachableError says that a file could not be got, which says nothing about the release.
type unreachableError struct {
	file string
	err  error
}

func (e *unreachableError) Error() string { return fmt.Sprintf("get %s: %v", e.file, e.err) }
func (e *unreachableError) Unwrap() error { return e.err }

func slow(limit time.Duration) error {
	return fmt.Errorf("the repository took more than %v altogether: it is tried again later: %w", limit, context.DeadlineExceeded)
}

// get reads a file of metadata. What go-tuf asks for may be a length that metadata announce, so ours is the last word.
func (v *Verifier) get(ctx context.Context, path string, limit int64) ([]byte, error) {
	limit = min(limit, v.config.MaxMetadata)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%w: a role whose name fits into no URL", trust.ErrMalformed)
	}
	file := redact(req.URL)
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, &unreachableError{file, cause(ctx, err)}
	}
	defer resp.Body.Close()
	if err := status(resp.StatusCode, file); err != nil {
		return nil, &unreachableError{file, err}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, max(limit, 0)+1))
	switch {
	case int64(len(data)) > limit: // first, since an endless one may break off as well
		return nil, fmt.Errorf("%w: %s has more than the %d bytes it may have", trust.ErrMalformed, file, limit)
	case err != nil:
		return nil, &unreachableError{file, cause(ctx, err)}
	}
	return data, nil
}

// status is nil for 200. By a 404 go-tuf knows that there is no newer root; storage services that let nobody list
// their files answer 403 instead, as python-tuf knows too.
func status(code int, file string) error {
	switch code {
	case http.StatusOK:
		return nil
	case http.StatusForbidden:
		return fmt.Errorf("status %d: %w", code, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: file})
	}
	return &metadata.ErrDownloadHTTP{StatusCode: code, URL: file}
}

// cause is why ctx ended, if it did, and otherwise the error without the URL's secrets.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var failed *url.Error
	if !errors.As(err, &failed) {
		return err
	}
	if u, parseErr := url.Parse(failed.URL); parseErr == nil {
		return fmt.Errorf("%s: %w", redact(u), failed.Err)
	}
	return failed.Err
}

func redact(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// guarded is a copy of a client, ours where it is nil, that follows redirects with care.
func guarded(c *http.Client) *http.Client {
	var guard http.Client
	if c != nil {
		guard = *c
	} else {
		guard.Transport = transport()
	}
	theirs := guard.CheckRedirect
	guard.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return fmt.Errorf("more than %d redirects: correct the MetadataURL or the host", maxRedirects)
		case via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https":
			return errors.New("redirected from https to http: refused, serve it over https")
		case theirs != nil:
			return theirs(req, via)
		}
		req.Header.Del("Referer")
		return nil
	}
	return &guard
}

func transport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    30 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // limits are of what is sent
		IdleConnTimeout:        10 * time.Second,
	}
}
