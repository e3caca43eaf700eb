package testserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// pipes is an in-memory listener. net.Pipe blocks on channels only, which
// testing/synctest takes for durably blocked; a socket would hang the bubble.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newPipes() *pipes {
	return &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return pipeAddr{} }

// dial hands the server one end of a new connection, with the certificate to
// speak TLS with, and returns the other.
func (l *pipes) dial(ctx context.Context, cert *certificate) (net.Conn, error) {
	ours, theirs := net.Pipe()
	shared := &link{}
	select {
	case l.accepted <- &pipe{Conn: ours, link: shared, cert: cert}:
		return &pipe{Conn: theirs, link: shared}, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: pipeAddr{}, Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, fmt.Errorf("testserver: dial: %w", context.Cause(ctx))
	}
}

// link is what the ends of a connection share.
type link struct{ broken atomic.Bool }

func (l *link) breakOff() { l.broken.Store(true) }

// pipe is one end of an in-memory connection. Its errors are those of a socket.
type pipe struct {
	net.Conn
	link *link
	cert *certificate // of the server's end
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	return n, p.translate("read", err)
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	return n, p.translate("write", err)
}

func (p *pipe) translate(op string, err error) error {
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)
	if ended && p.link.broken.Load() {
		return &net.OpError{Op: op, Net: "tcp", Addr: pipeAddr{}, Err: syscall.ECONNRESET}
	}
	return err
}

func (p *pipe) LocalAddr() net.Addr  { return pipeAddr{} }
func (p *pipe) RemoteAddr() net.Addr { return pipeAddr{} }

// pipeAddr looks like a socket's address, since Nebraska stores the client's.
type pipeAddr struct{}

func (pipeAddr) Network() string { return "tcp" }
func (pipeAddr) String() string  { return "127.0.0.1:1" }

// isInvalid tells names that never resolve (RFC 6761, section 6.4).
func isInvalid(host string) bool {
	return host == "invalid" || strings.HasSuffix(host, ".invalid")
}
