package testserver

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// listener keeps hold of the connections that it accepts, so that they can be
// reset, and none slips through while it ends.
type listener struct {
	net.Listener
	cert *certificate // nil: no TLS, but where the connection brings its own

	mu    sync.Mutex // guards what follows
	conns map[*conn]struct{}
	off   bool
	ended bool
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, listener: l}
		if !l.keep(c) {
			c.reset()
			continue
		}
		cert := l.cert
		if p, inMemory := raw.(*pipe); inMemory {
			cert = p.cert
		}
		if cert != nil {
			return tls.Server(c, cert.server), nil
		}
		return c, nil
	}
}

// keep remembers a connection, unless the listener is offline or at its end.
func (l *listener) keep(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off || l.ended {
		return false
	}
	if l.conns == nil {
		l.conns = make(map[*conn]struct{})
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *listener) isOffline() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.off || l.ended
}

// unplug resets every connection, and those to come as long as it is off.
func (l *listener) unplug(off bool) {
	l.mu.Lock()
	l.off = off
	var open []*conn
	if off {
		for c := range l.conns {
			open = append(open, c)
		}
	}
	l.mu.Unlock()
	for _, c := range open {
		c.reset()
	}
}

// end closes every connection and keeps none from now on.
func (l *listener) end() {
	l.mu.Lock()
	l.ended = true
	var open []*conn
	for c := range l.conns {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // it may be closed already
	}
}

// conn is a connection that can be reset, on a socket or in memory.
type conn struct {
	net.Conn
	listener *listener
}

func (c *conn) Close() error {
	c.listener.forget(c)
	return c.Conn.Close()
}

// reset makes the peer see a reset connection.
func (c *conn) reset() {
	switch raw := c.Conn.(type) {
	case *net.TCPConn:
		_ = raw.SetLinger(0) // the connection may be gone already, as below
	case *pipe:
		raw.link.breakOff()
	}
	_ = c.Close()
}

// resetConnection ends the connection of a request with a reset. Where that is
// not possible (another server's connection) it is just closed.
func resetConnection(w http.ResponseWriter) {
	raw, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if t, encrypted := raw.(*tls.Conn); encrypted {
		raw = t.NetConn()
	}
	if c, ours := raw.(*conn); ours {
		c.reset()
		return
	}
	_ = raw.Close() // nobody is left to be told
}
