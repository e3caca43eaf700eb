package testserver

import (
	"crypto/ecdsa"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The places in memory, and of a server that is not started.
const (
	omahaHost    = "omaha.test"
	payloadsHost = "payloads.test"
	updatePath   = "/v1/update"
)

// Server is a Nebraska-like Omaha server with a payload host. New makes one.
type Server struct {
	// Payloads serves the files of the releases, under a host of its own.
	Payloads *PayloadHost

	now     func() time.Time
	secret  string
	allow   func(*http.Request) bool
	signers map[string]*ecdsa.PrivateKey // by id
	changes *signal
	net     network

	mu        sync.Mutex // guards what follows, groups and rows included
	groups    map[groupKey]*Group
	machines  map[string]machine
	rows      map[rowKey]*row
	log       journal[Request]
	faults    queue[Fault]
	faultFunc func(Request) Fault
}

// New returns a server that does not listen yet. It starts no goroutine.
func New(opts ...Option) *Server {
	s := &Server{
		now:      time.Now,
		changes:  &signal{},
		signers:  make(map[string]*ecdsa.PrivateKey),
		groups:   make(map[groupKey]*Group),
		machines: make(map[string]machine),
		rows:     make(map[rowKey]*row),
		log:      journal[Request]{max: 10_000},
	}
	s.Payloads = newPayloadHost(s)
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// URL returns the endpoint, with the secret suffix and a final slash:
// "http://127.0.0.1:PORT/v1/update/", in memory (and before the server is
// started) "http://omaha.test/v1/update/".
func (s *Server) URL() string {
	url := s.net.base(omahaFront, omahaHost) + strings.TrimPrefix(updatePath, "/") + "/"
	if s.secret != "" {
		url += s.secret + "/"
	}
	return url
}

// Offline unplugs the Omaha server, or plugs it in again: open connections are
// reset, new ones are refused (in memory) or reset at once (on a socket).
func (s *Server) Offline(off bool) { s.net.offline(omahaFront, off) }

// Fail spoils the next n exchanges with f. Faults queue up, so that several
// calls spoil exchanges in their order. n < 0 spoils all until Heal.
func (s *Server) Fail(n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.push(n, f)
}

// FailFunc asks fn about every exchange that no queued fault spoils; the zero
// Fault spoils nothing. Its Request has no answer yet. fn may be called at the
// same time by several goroutines. nil ends it.
func (s *Server) FailFunc(fn func(r Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faultFunc = fn
}

// Heal takes all faults back. Those that have begun go on.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = queue[Fault]{}
	s.faultFunc = nil
}

// Requests returns the requests that the Omaha server received, in the order
// of their arrival, as far as WithLog remembers them. Bodies and headers are
// shared and not to be changed.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.all()
}
