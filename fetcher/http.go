package fetcher

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// HTTP fetches plain files (media type "binary") over http and https. The zero value is ready to use; HTTP is safe for
// concurrent use and may be used by value or by pointer. Its fields must not be changed after the first Fetch.
type HTTP struct {
	// Client talks to the payload hosts. Redirects are followed here and not by the Client, whose CheckRedirect and Timeout are
	// not used. Defaults to HTTP/1.1 without compression, TLS 1.2 at least, proxies from the environment, no cookies.
	Client *http.Client
	// Authorize adds credentials for payload hosts that want them. It is called for each request, and again for each redirect
	// target; nothing that it set is inherited by another request. Look at the request's URL before you add a secret. Defaults to none.
	Authorize func(*http.Request) error
	// AllowUnverified takes payloads that were announced without any usable hash. Defaults to refusing them (ErrNoHash).
	AllowUnverified bool

	// MaxSize is the largest payload taken, in bytes; larger ones fail with ErrSize. 0: any announced size, and 8 GiB where
	// none is announced.
	MaxSize int64
	// MinSpeed is the floor rate in bytes per second: a mirror that stays under it for 90 s counts as failed (ErrTooSlow).
	// Defaults to 10; negative: no floor.
	MinSpeed int64
	// StallTimeout is how long a mirror may send nothing before it counts as failed (ErrTooSlow). Defaults to 30 s.
	StallTimeout time.Duration
	// Tries is how many transfers in a row may fail at one mirror before the next one is taken; a received byte resets the
	// count. Defaults to 5.
	Tries int
	// RetryWait is the first wait before a mirror is tried again; it doubles with each failure up to 30 s, ± 50 %. Defaults to 500 ms.
	RetryWait time.Duration
	// Logger gets a line for each failed try at a mirror. Defaults to none.
	Logger *slog.Logger
}

// Fetch fetches job.Source to a file in job.Dir.
func (h HTTP) Fetch(ctx context.Context, job Job) (Payload, error) {
	return Payload{}, errors.New("fetch payload: under construction")
}
