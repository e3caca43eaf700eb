package testserver

import (
	"net/http"
	"strings"
	"time"
)

// Option configures a Server.
type Option func(*Server)

// WithClock sets the clock for everything that Nebraska does by time: the 24
// hours of events, quotas, timeouts. Delays of faults run on real (or the
// bubble's) time. Defaults to time.Now.
func WithClock(now func() time.Time) Option {
	return func(s *Server) { s.now = now }
}

// WithSecret sets Nebraska's secret suffix: the endpoint is /v1/update/SUFFIX
// then, and every other path below it answers 501. Defaults to none.
func WithSecret(suffix string) Option {
	return func(s *Server) { s.secret = strings.Trim(suffix, "/") }
}

// WithAuthorize puts a proxy in front of the Omaha server that answers 401 to
// requests for which allow returns false. Defaults to none.
func WithAuthorize(allow func(*http.Request) bool) Option {
	return func(s *Server) { s.allow = allow }
}

// WithLog sets how many requests Requests and PayloadHost.Requests remember,
// the latest ones. Defaults to 10,000; 0 remembers none, which long virtual
// runs want.
func WithLog(n int) Option {
	return func(s *Server) {
		s.log.max = n
		s.Payloads.log.max = n
	}
}
