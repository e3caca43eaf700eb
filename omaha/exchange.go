package omaha

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/nebraska/omahaclient/internal/secrets"
	"github.com/nebraska/omahaclient/internal/wait"
)

// exchange is one call of Do: what its attempts share. One goroutine uses it.
type exchange struct {
	client   *Client
	endpoint *url.URL // without user and password
	user     *url.Userinfo
	os       OS
	request  *Request
	header   http.Header // without credentials
	secrets  secrets.Set // that must not show in any message

	body     []byte // of the present attempt
	marshals int
	question *question // of the present attempt; nil without keys

	longestWait time.Duration
	lastErr     error // of the last attempt
	failed      error // why the last attempt was worth another one, as messages may show it
	answer      answer
}

// answer is what came, as far as it was read.
type answer struct {
	status      int // 0: nothing came
	contentType string
	retryAfter  time.Duration
	read        bool
	body        []byte // decompressed; the first bytes where status is none of success
	cut         bool   // the body ends before its end
}

func (c *Client) newExchange(req *Request) (*exchange, error) {
	refuse := func(endpoint string, err error) error {
		return &AnswerError{Endpoint: endpoint, Code: ExitOmahaRequest, Err: &mistakeError{err}}
	}
	if err := c.Validate(); err != nil {
		return nil, refuse("the server", err)
	}
	u, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return nil, refuse("the server", err)
	}
	if len(req.Apps) == 0 {
		return nil, refuse(shownURL(u), errors.New("no app to ask about"))
	}
	x := &exchange{client: c, endpoint: u, user: u.User, os: sentOS(c.OS), request: req}
	u.User = nil
	x.header = http.Header{
		"Content-Type":    {"text/xml; charset=utf-8"},
		"Accept":          {"text/xml, application/xml"},
		"Accept-Encoding": {"gzip"}, // undone in readBody, which also bounds what comes compressed
		"User-Agent":      {c.version()},
	}
	_, secret := cutSecret(u)
	x.secrets.AddURL(u)
	x.secrets.AddUser(x.user)
	x.secrets.Add(secret)
	return x, nil
}

// post sends the request until an answer came, and reads that. Its error is Do's.
func (x *exchange) post(ctx context.Context) error {
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, x.endpoint.String(), retryablehttp.ReaderFunc(x.nextBody))
	if err != nil {
		return x.fail(err, "")
	}
	req.Header = x.header.Clone()
	req.GetBody = x.sameBody
	req.SetResponseHandler(x.receive)
	resp, err := x.retrier().Do(req)
	if resp != nil {
		defer resp.Body.Close()
		x.note(resp)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return x.interrupted(ctx)
	case err != nil:
		return x.fail(err, x.adviceFor(err))
	case !x.answer.read: // the last attempt had a status that would be worth another one
		return x.receive(resp)
	}
	return nil
}

// nextBody is called once to learn the length and then once per attempt; each attempt gets a request id of its own.
func (x *exchange) nextBody() (io.Reader, error) {
	x.answer = answer{}
	x.marshals++
	if x.marshals != 2 {
		body, err := x.request.Marshal(x.os, x.client.version())
		if err != nil {
			return nil, err
		}
		x.body = body
	}
	return bytes.NewReader(x.body), nil
}

// sameBody is for what net/http repeats within an attempt (redirects, closed connections).
func (x *exchange) sameBody() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(x.body)), nil
}

// ask puts what is to be signed into the URL of an attempt. Each asks anew, so that no answer to another one fits.
func (x *exchange) ask(req *http.Request, attempt int) {
	keys := x.client.CUPKeys
	u := *x.endpoint
	x.question = newQuestion(keys[attempt%len(keys)], x.body)
	x.question.addTo(&u)
	req.URL = &u
}

// mistakeError is a call that sends nothing: a mistake in the Client or the Request.
type mistakeError struct{ err error }

func (e *mistakeError) Error() string { return e.err.Error() }
func (e *mistakeError) Unwrap() error { return e.err }

// receive reads an answer's body, within its attempt: one that breaks off is worth another attempt.
func (x *exchange) receive(resp *http.Response) error {
	x.note(resp)
	x.answer.read = true
	if !isSuccess(x.answer.status) {
		body, err := io.ReadAll(io.LimitReader(resp.Body, sampleSize))
		x.answer.body, x.answer.cut = body, err != nil || len(body) == sampleSize
		return nil //nolint:nilerr // the status is the answer
	}
	body, err := readBody(resp, &x.secrets)
	x.answer.body, x.answer.cut = body, err != nil
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return &plainError{fmt.Sprintf("the answer broke off after %d bytes", len(body)), err}
	}
	if x.question == nil {
		return err
	}
	if err != nil {
		return &unsignedError{x.question.key.ID, err, adviceUnsigned}
	}
	return x.question.check(resp.Header, body)
}

// note keeps what an answer's header says.
func (x *exchange) note(resp *http.Response) {
	x.answer.status = resp.StatusCode
	x.answer.contentType = resp.Header.Get("Content-Type")
	x.answer.retryAfter = x.delay(resp)
}

// interrupted is the error of a call whose ctx ended. It says why there was need for more than one attempt, which may be why there
// was not time enough; but it is no AnswerError: the next attempt might have been answered.
func (x *exchange) interrupted(ctx context.Context) error {
	err := fmt.Errorf("omaha request to %s: %w", shownURL(x.endpoint), wait.Ended(ctx))
	if x.failed != nil {
		err = fmt.Errorf("%w; the attempt before failed: %w", err, x.failed)
	}
	return err
}

// failure is why an attempt is worth another one: lastErr, or a status.
func (x *exchange) failure(resp *http.Response) error {
	if x.lastErr == nil {
		err := fmt.Errorf("HTTP %d: %s", resp.StatusCode, statusText(resp.StatusCode))
		if x.unsigned(resp) {
			err = &unsignedStatusError{err}
		}
		return err
	}
	if advice := x.adviceFor(x.lastErr); advice != "" {
		return fmt.Errorf("%w; %s", x.plain(x.lastErr), advice)
	}
	return x.plain(x.lastErr)
}

// plain is a network error without the URL that net/http puts in front and without anything secret. A timeout of
// an attempt must not look like the end of the caller's context, which it would by errors.Is.
func (x *exchange) plain(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	text := x.secrets.Text(err.Error())
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &plainError{"no complete answer in time: " + strings.TrimPrefix(text, "net/http: "), os.ErrDeadlineExceeded}
	}
	switch {
	case strings.HasSuffix(text, "EOF") && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)): // net/http's word for it
		text = "the server closed the connection without a whole answer"
	case text == err.Error():
		return err
	}
	return &plainError{text, err}
}
