package download_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// host is a payload host that does what its script says, one step for each request; after the last step it is honest.
type host struct {
	data []byte
	etag string

	mu     sync.Mutex // guards what follows
	cond   *sync.Cond
	script []step
	seen   []*http.Request
	done   int64 // what the client's Progress said last
}

// step answers one request.
type step func(h *host, w http.ResponseWriter, r *http.Request)

func newHost(data []byte, script ...step) *host {
	h := &host{data: data, etag: `"v1"`, script: script}
	h.cond = sync.NewCond(&h.mu)
	return h
}

// serve starts h on a real socket and returns the URL of its file.
func (h *host) serve(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/files/blob.bin"
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.seen = append(h.seen, r.Clone(context.Background()))
	do := honest
	if len(h.script) > 0 {
		do, h.script = h.script[0], h.script[1:]
	}
	h.mu.Unlock()
	do(h, w, r)
}

// ranges returns the Range header of each request so far.
func (h *host) ranges() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, r := range h.seen {
		all = append(all, r.Header.Get("Range"))
	}
	return all
}

func (h *host) requests() []*http.Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*http.Request(nil), h.seen...)
}

// progress is for Job.Progress; steps wait for it with reached.
func (h *host) progress(done, _ int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = done
	h.cond.Broadcast()
}

func (h *host) reached(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.done < n {
		h.cond.Wait()
	}
}

// The steps.

func honest(h *host, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", h.etag)
	http.ServeContent(w, r, "blob.bin", time.Time{}, bytes.NewReader(h.data))
}

// times repeats a step.
func times(n int, s step) []step {
	all := make([]step, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// from is where the request wants the answer to begin.
func from(r *http.Request) int {
	var n int
	_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &n)
	return n
}

// head writes an honest header for the rest of the file and returns that rest.
func head(h *host, w http.ResponseWriter, r *http.Request) []byte {
	n := from(r)
	w.Header().Set("ETag", h.etag)
	w.Header().Set("Content-Length", strconv.Itoa(len(h.data)-n))
	if n > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", n, len(h.data)-1, len(h.data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	return h.data[n:]
}

// cut sends n bytes of what is asked for and ends the connection with a FIN.
func cut(n int) step {
	return func(h *host, w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(head(h, w, r)[:n])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// reset sends n bytes, waits until they have arrived, and ends the connection with an RST.
func reset(n int) step {
	return func(h *host, w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(head(h, w, r)[:n])
		_ = http.NewResponseController(w).Flush()
		h.reached(int64(from(r) + n))
		conn := hijack(w)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
}

// stall sends n bytes and then nothing, until the client goes away.
func stall(n int) step {
	return func(h *host, w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(head(h, w, r)[:n])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// mute does not even answer.
func mute(_ *host, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// corrupt flips a bit in the middle of what it sends.
func corrupt(h *host, w http.ResponseWriter, r *http.Request) {
	b := bytes.Clone(head(h, w, r))
	b[len(b)/2] ^= 1
	_, _ = w.Write(b)
}

// whole ignores Range; it cuts off after n bytes unless that is all.
func whole(n int) step {
	return func(h *host, w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		cut(n)(h, w, r)
	}
}

// status answers with a status and no file.
func status(code int, header ...string) step {
	return func(_ *host, w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// raw takes the connection over and sends text as it is, then ends it.
func raw(text string) step {
	return func(_ *host, w http.ResponseWriter, _ *http.Request) {
		conn := hijack(w)
		_, _ = io.WriteString(conn, text)
		conn.Close()
	}
}

func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	return conn
}

// blob returns n random bytes, the same ones each time.
func blob(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// memory is a listener whose connections stay in this process, so that they can live in a synctest bubble.
type memory struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// serveInMemory starts h in a synctest bubble and returns a client that finds it under every name; end stops both.
func serveInMemory(h http.Handler) (client *http.Client, end func()) {
	l := &memory{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = srv.Serve(l)
	}()
	tr := &http.Transport{DialContext: l.dial, DisableCompression: true}
	return &http.Client{Transport: tr}, func() {
		tr.CloseIdleConnections()
		srv.Close()
		<-stopped
	}
}

func (l *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memory) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memory) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// quiet is a server's log that nobody reads.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
