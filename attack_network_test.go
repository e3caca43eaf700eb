package omahaclient_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// http is a client whose connections may be led elsewhere.
func (s *siege) http() *http.Client {
	c := s.Client()
	transport := c.Transport.(*http.Transport)
	dial := transport.DialContext
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if to := s.detours[address]; to != "" {
			address = to
		}
		return dial(ctx, network, address)
	}
	return c
}

// between puts somebody on the network between the client and one of the servers, who can read and change all that is not protected: of
// TLS he has a certificate of his own.
func (s *siege) between(server string, meddle func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	target, err := url.Parse(server)
	must(s.t, err)
	target.Path = ""
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport, proxy.ErrorLog = s.Client().Transport, log.New(io.Discard, "", 0)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { meddle(w, r, proxy) }))
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	if target.Scheme == "https" {
		front.StartTLS()
	} else {
		front.Start()
	}
	s.t.Cleanup(front.Close)
	s.detours[target.Host] = front.Listener.Addr().String()
}

// host is one of the attacker's own. It returns its address.
func (s *siege) host(serve http.HandlerFunc) string {
	front := httptest.NewServer(serve)
	s.t.Cleanup(front.Close)
	return front.URL + "/"
}

// rewrite changes the bodies of answers.
func rewrite(change func(body []byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		maps.Copy(w.Header(), answer.Header())
		w.Header().Del("Content-Length")
		w.WriteHeader(answer.Code)
		_, _ = w.Write(change(answer.Body.Bytes()))
	}
}

// serves answers with one content under any address.
func serves(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// endless answers without end under addresses that end so, and honestly under others.
func endless(suffix string, otherwise http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, suffix) {
			otherwise.ServeHTTP(w, r)
			return
		}
		for block := bytes.Repeat([]byte("EVIL"), 4<<10); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
}

// record is an answer that somebody kept.
type record struct {
	mu     sync.Mutex // guards what follows
	header http.Header
	body   []byte
	play   bool
}

// replay begins.
func (r *record) replay() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.play = true
}

// meddle keeps the first answer that offers something, and gives it again to every later question once play is set.
func (r *record) meddle(w http.ResponseWriter, req *http.Request, next http.Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := httptest.NewRecorder()
	if !r.play {
		next.ServeHTTP(answer, req)
		if r.body == nil && bytes.Contains(answer.Body.Bytes(), []byte("<manifest")) {
			r.header, r.body = answer.Header().Clone(), answer.Body.Bytes()
		}
	} else {
		maps.Copy(answer.Header(), r.header)
		_, _ = answer.Write(r.body)
	}
	maps.Copy(w.Header(), answer.Header())
	_, _ = w.Write(answer.Body.Bytes())
}
