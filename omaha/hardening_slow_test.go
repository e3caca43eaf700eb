package omaha_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nebraska/omahaclient/omaha"
)

// drip writes text, then more of it at each interval, until nobody listens any more.
func drip(conn net.Conn, text, more string, interval time.Duration) {
	if _, err := io.WriteString(conn, text); err != nil {
		return
	}
	for {
		time.Sleep(interval)
		if _, err := io.WriteString(conn, more); err != nil {
			return
		}
	}
}

// However slowly a server answers, and however long: an attempt ends with its timeout, and the call with its attempts. The whole of
// net/http is in between, over pipes, in virtual time.
func TestClient_slowAndEndlessAnswers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
	for _, tt := range []struct {
		name       string
		text, more string
		interval   time.Duration
	}{
		{"nothing at all", "", "", time.Hour},
		{"a byte of the status line a minute", "H", "T", time.Minute},
		{"a byte of the header a minute", head + "X", "x", time.Minute},
		{"a header line a second", head, "X: x\r\n", time.Second},
		{"an interim answer a second", "", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", time.Second},
		{"a body that never begins", head + "Content-Length: 9\r\n\r\n", "", time.Hour},
		{"a byte of the body a minute", head + "Content-Length: 500000\r\n\r\n<", "x", time.Minute},
		{"a byte of the body a second", head + "\r\n<response", " ", time.Second},
		{"a chunk a second", head + "Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", time.Second},
		{"an endless chunk header", head + "Transfer-Encoding: chunked\r\n\r\n1;", "x", time.Second},
		{"a whole answer without an end", head + "\r\n" + noUpdate, "", time.Hour},
		{"an error that never ends", "HTTP/1.1 500 Oops\r\n\r\n", "x", time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var servers sync.WaitGroup
				base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					servers.Go(func() {
						defer server.Close()
						if _, err := server.Read(make([]byte, 1)); err != nil {
							return
						}
						servers.Go(func() { io.Copy(io.Discard, server) })
						drip(server, tt.text, tt.more, tt.interval)
					})
					return client, nil
				}}
				c := &omaha.Client{Endpoint: "http://updates.example.com/", RetryMax: 1, HTTP: &http.Client{Transport: base}}
				start := time.Now()
				_, err := c.Do(context.Background(), checkFor("a"))
				if took := time.Since(start); err == nil || took > 2*time.Minute+10*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
				if len(err.Error()) > 1000 || strings.Contains(err.Error(), "EOF") {
					t.Errorf("message %q", err)
				}
				base.CloseIdleConnections()
				servers.Wait()
			})
		})
	}
}
