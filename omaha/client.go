package omaha

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// Client sends requests to one Omaha server. It is safe for concurrent use; its fields must not change after
// the first call, nor may it be copied.
type Client struct {
	// Endpoint is the server's absolute http or https URL. Without a path it gets go-omaha's default, /v1/update/.
	// A user and password in it are sent as basic authorization. Required.
	Endpoint string

	// HTTP makes the connections. Its Transport, Jar, Timeout and CheckRedirect are honoured, and it is not changed.
	// nil means a client of our own: TLS 1.2 at least, proxies from the environment. Without a Timeout of its own
	// an attempt may take 60 seconds, answer included.
	HTTP *http.Client

	// Authorize adds credentials to each attempt, and to no other host than the endpoint's. Its error ends the call.
	// It may be called by several goroutines at once. nil means none.
	Authorize func(*http.Request) error

	// Logger gets a line for each retry. nil means none.
	Logger *slog.Logger

	// Version is the request's version attribute and the User-Agent: printable ASCII. "" means "omahaclient-" and a number.
	Version string

	RetryMax     int           // attempts after the first; 0 means 4, below 0 none
	RetryWaitMin time.Duration // before the first retry, doubling from there; 0 means 1 s
	RetryWaitMax time.Duration // longest wait; a server that asks for more ends the call; 0 means 30 s

	// OS describes this machine. The zero value means [LocalOS].
	OS OS
}

// Validate returns all mistakes in the fields.
func (c *Client) Validate() error { return nil }

// Do sends the request, with retries, and returns the answer. Its error is an [*AnswerError] or wraps ctx's.
func (c *Client) Do(ctx context.Context, req *Request) (*Response, error) {
	return nil, &AnswerError{Err: errors.New("not built yet")}
}

// CloseIdleConnections closes the idle connections of the Client's own transport, if HTTP is nil.
func (c *Client) CloseIdleConnections() {}
