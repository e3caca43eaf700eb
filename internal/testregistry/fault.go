package testregistry

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// Honest is no fault.
func Honest(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }

// Times spoils the first n requests whose path has this part in it.
func Times(n int, part string, f Front) Front {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		mine := n > 0 && strings.Contains(r.URL.Path, part)
		if mine {
			n--
		}
		mu.Unlock()
		if mine {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// Both puts one fault in front of another.
func Both(outer, inner Front) Front {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		outer(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner(w, r, next) }))
	}
}

// Answer sends a status, with headers in pairs, and no body.
func Answer(status int, header ...string) Front {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// Edit changes an honest answer: its header in place, its body to what is returned. The length that is announced stays as edit leaves it.
func Edit(edit func(header http.Header, body []byte) []byte) Front {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		body := edit(answer.Header(), answer.Body.Bytes())
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	}
}

// Corrupt flips a bit in the middle of the body.
func Corrupt() Front {
	return Edit(func(_ http.Header, body []byte) []byte {
		body[len(body)/2] ^= 1
		return body
	})
}

// Cut ends the connection after n bytes of the body: with a FIN, or with an RST.
func Cut(n int, reset bool) Front {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		begin(w, r, next, n)
		if reset {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
			return
		}
		panic(http.ErrAbortHandler)
	}
}

// Stall sends n bytes of the body and then nothing, until the client goes away.
func Stall(n int) Front {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		begin(w, r, next, n)
		<-r.Context().Done()
	}
}

// begin sends an honest header and the first n bytes of its body.
func begin(w http.ResponseWriter, r *http.Request, next http.Handler, n int) {
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()[:min(n, answer.Body.Len())])
	_ = http.NewResponseController(w).Flush()
}

// Slow sends so many bytes of each body a second; 0 is full speed.
func Slow(rate int) Front {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if rate > 0 {
			w = &slow{ResponseWriter: w, rate: rate, gone: r.Context().Done()}
		}
		next.ServeHTTP(w, r)
	}
}

type slow struct {
	http.ResponseWriter
	rate int
	gone <-chan struct{}
}

func (s *slow) Write(p []byte) (written int, err error) {
	const perSecond = 50
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for len(p) > 0 {
		n, err := s.ResponseWriter.Write(p[:min(len(p), max(s.rate/perSecond, 1))])
		if written += n; err != nil {
			return written, err
		}
		if p = p[n:]; len(p) == 0 {
			break
		}
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		select {
		case <-tick.C:
		case <-s.gone:
			return written, context.Canceled
		}
	}
	return written, nil
}

// Unwrap is for http.ResponseController.
func (s *slow) Unwrap() http.ResponseWriter { return s.ResponseWriter }
