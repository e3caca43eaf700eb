package omaha

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	defaultRetryMax     = 4
	defaultRetryWaitMin = time.Second
	defaultRetryWaitMax = 30 * time.Second
	maxClientVersion    = 64 // bytes; see envelopeSize
)

// Client sends requests to one Omaha server. It is safe for concurrent use; its fields must not change after
// the first call, nor may it be copied then.
type Client struct {
	// Endpoint is the server's absolute http or https URL. Without a path it gets go-omaha's default, /v1/update/.
	// A user and password in it are sent as basic authorization. Required.
	Endpoint string

	// HTTP makes the connections. Its Transport, Jar, Timeout and CheckRedirect are honoured, and it is not changed.
	// nil means a client of our own: TLS 1.2 at least, proxies from the environment. Without a Timeout of its own
	// an attempt may take 60 seconds, its answer included.
	HTTP *http.Client

	// Authorize adds credentials to each attempt, and for no other host than the endpoint's. Its error ends the call.
	// Several goroutines may call it at once. nil means none.
	Authorize func(*http.Request) error

	// Logger gets a line for each retry. nil means none.
	Logger *slog.Logger

	// Version is the request's version attribute and the User-Agent: at most 64 printable ASCII characters.
	// "" means "omahaclient-" and a number.
	Version string

	// CUPKeys are the keys of which one must have signed each answer; without one it counts as no answer, whatever its headers say.
	// An attempt asks for one key, the first attempt of a call for the first key, and takes an answer signed with that key only.
	// The attempts after one that failed go through the others in turn, as often as RetryMax allows.
	//
	// So a new key is introduced on either side first: put it before the old one here, and on the server beside the old one, which
	// stays there as long as clients ask for it. Until the server has it, each call needs a second attempt.
	// None means that answers need no proof.
	CUPKeys []CUPKey

	RetryMax     int           // attempts after the first; 0 means 4, below 0 none
	RetryWaitMin time.Duration // before the first retry, doubling from there; 0 means 1 s
	RetryWaitMax time.Duration // longest wait; a server that asks for a longer one ends the call; 0 means 30 s, or RetryWaitMin

	// OS describes this machine. An empty platform or architecture means that of [LocalOS].
	OS OS

	ownOnce sync.Once
	own     *http.Transport // made by ownOnce where HTTP is nil
}

// Validate returns all mistakes in the fields, joined. Do does the same before it sends anything.
func (c *Client) Validate() error {
	var mistakes []error
	if _, err := parseEndpoint(c.Endpoint); err != nil {
		mistakes = append(mistakes, err)
	}
	if len(c.Version) > maxClientVersion || strings.ContainsFunc(c.Version, func(r rune) bool { return r < ' ' || r > '~' }) {
		mistakes = append(mistakes, fmt.Errorf("version %q: want at most %d printable ASCII characters",
			printable(c.Version, maxClientVersion), maxClientVersion))
	}
	if c.Version == syncerVersion {
		mistakes = append(mistakes, fmt.Errorf("version %q: Nebraska takes such a client for another Nebraska: choose another one", c.Version))
	}
	if c.RetryWaitMin < 0 || c.RetryWaitMax < 0 || c.RetryWaitMax != 0 && c.RetryWaitMax < c.RetryWaitMin {
		mistakes = append(mistakes, fmt.Errorf("retry waits %v to %v: want neither below 0, and the first at most the second",
			c.RetryWaitMin, c.RetryWaitMax))
	}
	return errors.Join(append(mistakes, validateKeys(c.CUPKeys)...)...)
}

// Do sends the request and returns the answer, one AppResponse for each app.
//
// It makes one POST, and another after network errors and the statuses 408, 429, 500, 502, 503 and 504, each with
// a new request id: RetryMax times, with doubling waits (half of each is random). It waits as long as a Retry-After
// asks for, up to RetryWaitMax; if the server asks for more, it ends. With CUPKeys it also makes another POST after an answer
// without valid proof, which includes every status but 2xx, and waits as long as it would without a Retry-After.
//
// The error is an [*AnswerError], or wraps ctx's error (and cause) where that ended the call: then it is no AnswerError, but says, and
// wraps, why the attempt before failed, if there was one.
func (c *Client) Do(ctx context.Context, req *Request) (*Response, error) {
	x, err := c.newExchange(req)
	if err != nil {
		return nil, err
	}
	if err := x.post(ctx); err != nil {
		return nil, err
	}
	doc, err := x.readAnswer()
	if err != nil {
		return nil, err
	}
	return &Response{
		Server:     foreign(&x.secrets, doc.Server, 100),
		RetryAfter: x.answer.retryAfter,
		Apps:       req.read(doc, x.os.Arch, &x.secrets),
	}, nil
}

// CloseIdleConnections closes the idle connections of the Client's own transport. Those of HTTP are left alone.
func (c *Client) CloseIdleConnections() {
	if c.HTTP == nil {
		c.ownTransport().CloseIdleConnections()
	}
}

func (c *Client) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

func (c *Client) version() string {
	if c.Version == "" {
		return defaultVersion
	}
	return c.Version
}
