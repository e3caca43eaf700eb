package omaha

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// maxServerDelay bounds what a server may ask for (ServerProtocolV3 allows X-Retry-After up to a day).
const maxServerDelay = 24 * time.Hour

// retrier returns what repeats the attempts of one exchange. Its own logger is silenced: it would log the query.
func (x *exchange) retrier() *retryablehttp.Client {
	c := x.client
	rc := &retryablehttp.Client{
		HTTPClient:   x.httpClient(),
		RetryMax:     c.RetryMax,
		RetryWaitMin: c.RetryWaitMin,
		RetryWaitMax: c.RetryWaitMax,
		CheckRetry:   x.checkRetry,
		Backoff:      x.backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	if rc.RetryMax == 0 {
		rc.RetryMax = defaultRetryMax
	}
	if rc.RetryWaitMin == 0 {
		rc.RetryWaitMin = defaultRetryWaitMin
	}
	if rc.RetryWaitMax == 0 {
		rc.RetryWaitMax = max(defaultRetryWaitMax, c.RetryWaitMin)
	}
	rc.RetryWaitMin = min(rc.RetryWaitMin, rc.RetryWaitMax)
	x.longestWait = rc.RetryWaitMax
	if len(c.CUPKeys) > 0 {
		rc.RequestLogHook = func(_ retryablehttp.Logger, req *http.Request, attempt int) { x.ask(req, attempt) }
	}
	return rc
}

// checkRetry is asked after each attempt, and again when its answer has been read.
func (x *exchange) checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	x.lastErr = err
	if x.unsigned(resp) {
		return true, nil // whoever says so; and the server may not know the key that was asked for
	}
	if err != nil {
		return !isFinal(err), nil
	}
	return isPassing(resp.StatusCode) && x.delay(resp) <= x.longestWait, nil
}

// backoff waits min, 2 min, 4 min … up to max, half of it at random, but no less than the server asks for.
func (x *exchange) backoff(shortest, longest time.Duration, attempt int, resp *http.Response) time.Duration {
	wait := longest
	if attempt < 32 && shortest < longest>>attempt {
		wait = shortest << attempt
	}
	wait = wait/2 + rand.N(wait/2+1)
	x.failed = x.failure(resp)
	attrs := []slog.Attr{slog.String("endpoint", shownURL(x.endpoint)), slog.Int("attempt", attempt+1)}
	if resp != nil && x.lastErr == nil {
		wait = max(wait, x.delay(resp))
		attrs = append(attrs, slog.Int("status", resp.StatusCode))
	} else if x.lastErr != nil {
		attrs = append(attrs, slog.String("error", x.plain(x.lastErr).Error()))
	}
	attrs = append(attrs, slog.Duration("wait", wait))
	x.client.logger().LogAttrs(context.Background(), slog.LevelWarn, "omaha request failed, trying again", attrs...)
	return wait
}

// unsigned tells that an answer has a status which no proof covers: with keys, nobody is believed that.
func (x *exchange) unsigned(resp *http.Response) bool {
	return x.question != nil && resp != nil && !isSuccess(resp.StatusCode)
}

// isPassing tells which statuses are worth another attempt.
func isPassing(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func isSuccess(status int) bool { return status >= 200 && status <= 299 }

// isFinal tells which failed attempts would fail again: what was refused here, and what is set up wrong.
func isFinal(err error) bool {
	var (
		authorize *authorizeError
		redirect  *redirectError
		untrusted *tls.CertificateVerificationError
		unknown   x509.UnknownAuthorityError
		plaintext tls.RecordHeaderError
		mistake   *mistakeError
	)
	if errors.Is(err, ErrUnsigned) { // whatever else is wrong with it
		return false
	}
	return errors.As(err, &authorize) || errors.As(err, &redirect) || errors.As(err, &mistake) ||
		errors.As(err, &untrusted) || errors.As(err, &unknown) || errors.As(err, &plaintext) ||
		errors.Is(err, http.ErrSchemeMismatch) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrNotOmaha) ||
		errors.Is(err, ErrEmptyResponse)
}

// delay returns how long the server asks to wait. With keys nobody is heeded: who can change a header could stop the checks.
func (x *exchange) delay(resp *http.Response) time.Duration {
	if x.question != nil {
		return 0
	}
	return serverDelay(resp, time.Now())
}

// serverDelay returns how long the server asks to wait: Retry-After in seconds or as a date (RFC 9110, section
// 10.2.3), X-Retry-After in seconds over https only (ServerProtocolV3), the longer one, at most a day.
func serverDelay(resp *http.Response, now time.Time) time.Duration {
	delay := parseDelay(resp.Header.Get("Retry-After"), resp.Header.Get("Date"), now)
	if resp.Request != nil && resp.Request.URL.Scheme == "https" {
		delay = max(delay, parseSeconds(resp.Header.Get("X-Retry-After")))
	}
	return delay
}

// parseDelay measures a date by the server's own clock where that is known: ours may be wrong.
func parseDelay(value, date string, now time.Time) time.Duration {
	when, err := http.ParseTime(value)
	if err != nil {
		return parseSeconds(value)
	}
	if serverNow, err := http.ParseTime(date); err == nil {
		now = serverNow
	}
	return min(max(when.Sub(now), 0), maxServerDelay)
}

func parseSeconds(value string) time.Duration {
	value = strings.TrimSpace(value)
	seconds, err := strconv.ParseInt(value, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && value[0] != '-':
		return maxServerDelay
	case err != nil || seconds <= 0:
		return 0
	}
	return time.Duration(min(seconds, int64(maxServerDelay/time.Second))) * time.Second
}
