package testserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// The two hosts.
const (
	omahaFront = iota
	payloadsFront
)

// network is what the server listens on: two fronts, on sockets or in memory.
// Its owner is the Server, whose Close waits for every goroutine started here.
type network struct {
	mu      sync.Mutex // guards what follows
	fronts  [2]*front
	cert    *certificate
	pipes   [2]*pipes // what fronts listen on in memory
	clients []*http.Transport
}

// front is one listening http.Server.
type front struct {
	base     string // URL with a final slash
	srv      *http.Server
	listener *listener
	served   chan struct{}  // closed when Serve has returned
	conns    sync.WaitGroup // connections, until their goroutine is about to end
}

// Start listens on a loopback port each for the Omaha server and the payload
// host, by http.
func (s *Server) Start() error { return s.listen(nil) }

// StartTLS is Start by https. Client trusts the certificate, which is the
// server's own.
func (s *Server) StartTLS() error {
	cert, err := newCertificate()
	if err != nil {
		return fmt.Errorf("testserver: start with TLS: %w", err)
	}
	return s.listen(cert)
}

func (s *Server) listen(cert *certificate) error {
	n := &s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mustBeNew()
	var sockets [2]net.Listener
	for i := range sockets {
		socket, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			for _, open := range sockets[:i] {
				err = errors.Join(err, open.Close())
			}
			return fmt.Errorf("testserver: start: %w", err)
		}
		sockets[i] = socket
	}
	n.cert = cert
	for i, socket := range sockets {
		scheme := "http"
		if cert != nil {
			scheme = "https"
		}
		n.serve(i, scheme+"://"+socket.Addr().String()+"/", &listener{Listener: socket, cert: cert}, s.handler(i))
	}
	return nil
}

// StartMemory serves in-memory connections, which Client alone can make. It
// must be called within the synctest bubble that New was called in, if any. The
// hosts are omaha.test and payloads.test, by http, and by https too where the
// URL says so.
func (s *Server) StartMemory() {
	n := &s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mustBeNew()
	cert, err := newCertificate()
	if err != nil {
		panic(fmt.Sprintf("testserver: start in memory: %v", err))
	}
	n.cert = cert
	for i, host := range []string{omahaHost, payloadsHost} {
		n.pipes[i] = newPipes()
		n.serve(i, "http://"+host+"/", &listener{Listener: n.pipes[i]}, s.handler(i))
	}
}

func (s *Server) handler(i int) http.Handler {
	if i == omahaFront {
		return s
	}
	return s.Payloads
}

func (n *network) mustBeNew() {
	if n.fronts[0] != nil {
		panic("testserver: start: already started, make another server")
	}
}

// serve starts a front. The caller holds n.mu.
func (n *network) serve(i int, base string, l *listener, handler http.Handler) {
	f := &front{base: base, listener: l, served: make(chan struct{})}
	f.srv = &http.Server{
		Handler:      handler,
		ErrorLog:     log.New(io.Discard, "", 0),                               // of handshakes that fail on purpose
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1: HTTP/2 cannot be hijacked for a reset
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				f.conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				f.conns.Done()
			default:
			}
		},
	}
	n.fronts[i] = f
	go func() {
		defer close(f.served)
		_ = f.srv.Serve(l) // http.ErrServerClosed, after Close
	}()
}

// Close stops the server, ends all its connections and waits for its
// goroutines. Answers under way are cut. What was recorded stays readable. It
// may be called more than once.
func (s *Server) Close() {
	n := &s.net
	n.mu.Lock()
	fronts, clients := n.fronts, n.clients
	n.mu.Unlock()
	for _, f := range fronts {
		if f != nil {
			f.listener.end()
			_ = f.srv.Close() // its listener's error says nothing new
			<-f.served
			f.conns.Wait()
		}
	}
	for _, c := range clients {
		c.CloseIdleConnections()
	}
}

func (n *network) base(i int, host string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fronts[i] == nil {
		return "http://" + host + "/"
	}
	return n.fronts[i].base
}

func (n *network) offline(i int, off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fronts[i] != nil {
		n.fronts[i].listener.unplug(off)
	}
}

// Client returns a new client that reaches the started server and its payload
// host, and trusts their certificate. Its transport, an *http.Transport of its
// own, neither uses a proxy nor asks for compression; Close closes its idle
// connections. In memory the transport dials the Omaha server for omaha.test
// and the payload host for every other name, but for names under .invalid,
// which do not resolve, and refused.test, which refuses connections.
func (s *Server) Client() *http.Client {
	n := &s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	transport := &http.Transport{DisableCompression: true}
	if n.cert != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: n.cert.pool, MinVersion: tls.VersionTLS12}
	}
	if n.pipes[0] != nil {
		transport.DialContext = n.dial
	}
	n.clients = append(n.clients, transport)
	return &http.Client{Transport: transport}
}

// dial makes an in-memory connection.
func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("testserver: dial: %w", err)
	}
	if isInvalid(host) {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	i := payloadsFront
	if host == omahaHost {
		i = omahaFront
	}
	n.mu.Lock()
	front, pipes, cert := n.fronts[i], n.pipes[i], n.cert
	n.mu.Unlock()
	if host == "refused.test" || front.listener.isOffline() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: pipeAddr{}, Err: syscall.ECONNREFUSED}
	}
	if port != "443" {
		cert = nil
	}
	return pipes.dial(ctx, cert)
}
