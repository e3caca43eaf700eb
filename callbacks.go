package omahaclient

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/nebraska/omahaclient/pool"
)

// guardCallbacks puts a guard around the program's functions, which run in goroutines of the Client's: a panic in one of them is
// logged with its stack, and keeps neither the program nor any app's updates from going on.
func (c *Client) guardCallbacks() {
	if gate := c.cfg.gate; gate != nil {
		c.cfg.gate = func(appID string, now time.Time) (open bool, next time.Time) {
			if err := c.guarded("WithGate", func() { open, next = gate(appID, now) }); err != nil {
				return false, time.Time{} // what cannot say yes has not said it
			}
			return open, next
		}
	}
	if authorize := c.cfg.authorize; authorize != nil {
		c.cfg.authorize = func(r *http.Request) (err error) {
			panicked := c.guarded("WithAuthorization", func() { err = authorize(r) })
			return errors.Join(err, panicked)
		}
	}
	if progress := c.cfg.progress; progress != nil {
		c.cfg.progress = func(p Progress) { _ = c.guarded("WithProgress", func() { progress(p) }) } // it is in the log
	}
	if alarm := c.cfg.alarm; alarm != nil {
		c.cfg.alarm = func(s Staleness) { _ = c.guarded("WithMaxStaleness", func() { alarm(s) }) }
	}
}

// guarded calls one of the program's functions, which option names. A panic becomes an error.
func (c *Client) guarded(option string, call func()) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("the function of %s panicked: %v", option, value)
			c.cfg.logger.Error("a function of the program panicked", "option", option, "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
		}
	}()
	call()
	return nil
}

// logPanic logs the stack of a fetcher or verifier that panicked, of which the error says no more than the value.
func (c *Client) logPanic(a *app, err error) {
	var p *pool.PanicError
	if errors.As(err, &p) {
		c.cfg.logger.Error("a fetcher or verifier panicked", "app_id", a.id, "panic", fmt.Sprint(p.Value), "stack", string(p.Stack))
	}
}
