package download_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/download"
)

// A mirror whose headers are absurd is left, in bounded time and memory, for one that is honest.
func TestFetch_headerAbuse(t *testing.T) {
	data := blob(1000)
	for name, answer := range map[string]string{
		"100,000 interim answers":     strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 100_000),
		"100,000 headers":             "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: x\r\n", 100_000),
		"an endless status line":      "HTTP/1.1 200 " + strings.Repeat("x", 1<<20),
		"switching protocols":         "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
		"a negative length":           "HTTP/1.1 200 OK\r\nContent-Length: -1000\r\n\r\n",
		"two lengths":                 "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Length: 1\r\n\r\n",
		"an absurd length":            "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n",
		"an absurd range":             "HTTP/1.1 206 Part\r\nContent-Range: bytes 9223372036854775807-9223372036854775807/*\r\n\r\n",
		"an endless ETag":             "HTTP/1.1 200 OK\r\nETag: \"" + strings.Repeat("x", 100_000) + "\"\r\nContent-Length: 5\r\n\r\nhello",
		"an endless delay":            "HTTP/1.1 503 Later\r\nRetry-After: 99999999999999999999999\r\nContent-Length: 0\r\n\r\n",
		"a delay of 60 years":         "HTTP/1.1 429 Later\r\nRetry-After: 2000000000\r\nContent-Length: 0\r\n\r\n",
		"a delay until the year 9999": "HTTP/1.1 503 Later\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n",
		"an endless Location":         "HTTP/1.1 302 There\r\nLocation: http://h.example/" + strings.Repeat("x", 200_000) + "\r\nContent-Length: 0\r\n\r\n",
		"a challenge without end":     "HTTP/1.1 401 No\r\nWWW-Authenticate: " + strings.Repeat("Bearer x,", 20_000) + "\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			bad := newHost(data, times(20, raw(answer))...)
			good := newHost(data)
			job := newJob(t, data, bad.serve(t), good.serve(t))
			job.Limits.Tries = 2
			fetched(t, job, data)
			job = newJob(t, data, bad.serve(t))
			job.Limits.Tries = 2
			_, err := download.Fetch(t.Context(), job)
			if strings.HasPrefix(name, "an endless ETag") || err == nil {
				return // it may have become honest by now
			}
			if len(err.Error()) > 2000 {
				t.Errorf("a message of %d bytes: %.300s…", len(err.Error()), err)
			}
		})
	}
}

// A header that never ends, or drips, is left after AnswerTimeout.
func TestFetch_drippingHeader(t *testing.T) {
	data := blob(1000)
	for name, more := range map[string]string{"a byte at a time": "x", "a line at a time": "\r\nX: x", "interim answers": "\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: x"} {
		t.Run(name, func(t *testing.T) {
			dripping := func(_ *host, w http.ResponseWriter, _ *http.Request) {
				conn := hijack(w)
				defer conn.Close()
				text := "HTTP/1.1 103 Early Hints\r\nX: "
				for {
					if _, err := conn.Write([]byte(text)); err != nil {
						return
					}
					<-time.After(time.Second)
					text = more
				}
			}
			inBubble(t, data, times(99, dripping), nil, func(t *testing.T, h *host, _ download.Job, _ download.Result, err error, took time.Duration) {
				if err == nil || len(h.requests()) != 5 {
					t.Errorf("%d requests, %v", len(h.requests()), err)
				}
				<-time.After(2 * time.Second) // the host notices, with its next byte, that nobody listens
				within(t, took, 2*time.Minute, 7*time.Minute)
			})
		})
	}
}
