package omahaclient

import "log/slog"

// Logger returns the logger that WithLogger gave the Client; one that discards everything where there was none, never nil. It
// is for what works on a Client's behalf, such as apply.Serve.
func (c *Client) Logger() *slog.Logger { return c.cfg.logger }
