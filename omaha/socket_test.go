package omaha_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/kinvolk/go-omaha/omaha"

	"github.com/nebraska/omahaclient/omaha"
)

// These run over real sockets, with the Client's own transport.

func gzipped(t *testing.T, parts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	for _, part := range parts {
		if _, err := io.WriteString(zw, part); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestClient_compressed(t *testing.T) {
	whole := gzipped(t, noUpdate)
	bomb := gzipped(t, `<response protocol="3.0">`, strings.Repeat(" ", 64<<20), `</response>`)
	broken := bytes.Clone(whole)
	broken[len(broken)-6] ^= 1 // in the checksum
	for _, tt := range []struct {
		name  string
		body  []byte
		want  error // nil: an answer
		final bool
		says  string
	}{
		{"whole", whole, nil, false, ""},
		{"bomb", bomb, omaha.ErrTooLarge, true, "1048576"},
		{"stored blocks without content", append(whole[:10:10], bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, 400<<10)...), omaha.ErrTooLarge, true, "1048576"},
		{"cut off", whole[:len(whole)/2], io.ErrUnexpectedEOF, false, "broke off"},
		{"cut off in its header", whole[:5], io.ErrUnexpectedEOF, false, "broke off"},
		{"wrong checksum", broken, omaha.ErrNotOmaha, true, "compression"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Accept-Encoding") != "gzip" {
					t.Errorf("asked for %q", r.Header.Get("Accept-Encoding"))
				}
				w.Header().Set("Content-Type", "text/xml")
				w.Header().Set("Content-Encoding", "gzip")
				w.(http.Flusher).Flush() // no Content-Length
				w.Write(tt.body)
			})
			resp, err := clientOf(t, srv.URL).Do(context.Background(), checkFor("a"))
			if tt.want == nil {
				if err != nil || !resp.Apps[0].NoUpdate {
					t.Errorf("got %+v, %v", resp, err)
				}
				return
			}
			if !errors.Is(err, tt.want) || asAnswer(t, err).Final() != tt.final {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			saysAll(t, err, tt.says)
		})
	}
}

// hijack answers with raw bytes and closes the connection.
func hijack(t *testing.T, raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // or closing would reset the connection, and lose what was written
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, raw)
	}
}

func TestClient_brokenConnections(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
	for _, tt := range []struct{ name, raw, says string }{
		{"closed without an answer", "", "closed the connection"},
		{"closed in the header", head, "closed the connection"},
		{"no HTTP", "hello\r\n\r\n", "malformed"},
		{"shorter than announced", head + "Content-Length: 1000\r\n\r\n" + noUpdate[:50], "broke off after 50 bytes"},
		{"cut chunk", head + "Transfer-Encoding: chunked\r\n\r\n40\r\n" + noUpdate[:50], "broke off after 50 bytes"},
		{"endless header", head + strings.Repeat("X-Filler: "+strings.Repeat("x", 1000)+"\r\n", 200), "header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := clientOf(t, serve(t, hijack(t, tt.raw)).URL)
			c.RetryMax = 1
			_, err := c.Do(context.Background(), checkFor("a"))
			if answer := asAnswer(t, err); answer.Final() || answer.Code != omaha.ExitOmahaRequest {
				t.Errorf("got %+v", answer)
			}
			saysAll(t, err, tt.says)
			saysNone(t, err, "EOF")
		})
	}
}

func TestClient_announcedTooLarge(t *testing.T) {
	srv := serve(t, hijack(t, "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 1048577\r\n\r\n"))
	_, err := clientOf(t, srv.URL).Do(context.Background(), checkFor("a"))
	if !errors.Is(err, omaha.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestClient_nobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := "http://" + listener.Addr().String() + "/?token=hush"
	listener.Close()
	_, err = clientOf(t, target).Do(context.Background(), checkFor("a"))
	var op *net.OpError
	if answer := asAnswer(t, err); answer.Final() || !errors.As(err, &op) {
		t.Errorf("got %+v", answer)
	}
	saysNone(t, err, "hush")
}

func TestClient_cancelledWhileWaitingForTheAnswer(t *testing.T) {
	asked, done := make(chan struct{}), make(chan struct{})
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(asked)
		<-done
	})
	defer close(done)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-asked; cancel() }()
	_, err := clientOf(t, srv.URL).Do(ctx, checkFor("a"))
	var answer *omaha.AnswerError
	if !errors.Is(err, context.Canceled) || errors.As(err, &answer) {
		t.Errorf("got %v", err)
	}
}

func TestClient_TLS(t *testing.T) {
	var requests atomic.Int32
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		answerNoUpdate(w)
	}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := serve(t, func(w http.ResponseWriter, _ *http.Request) { answerNoUpdate(w) })

	t.Run("unknown authority", func(t *testing.T) {
		_, err := clientOf(t, secure.URL).Do(context.Background(), checkFor("a"))
		if !asAnswer(t, err).Final() || requests.Load() != 0 {
			t.Errorf("%d requests: %v", requests.Load(), err)
		}
		saysAll(t, err, "certificate", "add the authority")
	})
	t.Run("known to the caller's client", func(t *testing.T) {
		c := clientOf(t, secure.URL)
		c.HTTP = secure.Client()
		if _, err := c.Do(context.Background(), checkFor("a")); err != nil {
			t.Error(err)
		}
	})
	t.Run("https where http is spoken", func(t *testing.T) {
		_, err := clientOf(t, strings.Replace(plain.URL, "http:", "https:", 1)).Do(context.Background(), checkFor("a"))
		if !asAnswer(t, err).Final() {
			t.Errorf("got %v", err)
		}
		saysAll(t, err, "scheme or port")
	})
	t.Run("http where https is spoken", func(t *testing.T) {
		_, err := clientOf(t, strings.Replace(secure.URL, "https:", "http:", 1)).Do(context.Background(), checkFor("a"))
		if answer := asAnswer(t, err); answer.StatusCode != 400 || !answer.Final() {
			t.Errorf("got %v", err)
		}
		saysAll(t, err, "HTTPS server", "the endpoint must begin with https://")
		saysNone(t, err, "path right")
	})
	t.Run("http where an alert comes back", func(t *testing.T) {
		c := clientOf(t, serve(t, hijack(t, "\x15\x03\x01\x00\x02\x02\x16")).URL)
		c.RetryMax = -1
		_, err := c.Do(context.Background(), checkFor("a"))
		saysAll(t, asAnswer(t, err), "the endpoint must begin with https://")
	})
}

// Where no connection is made, the message says what to look at.
func TestClient_adviceOnConnections(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	host, err := url.Parse(gone.URL)
	if err != nil {
		t.Fatal(err)
	}
	lookup := func(dns *net.DNSError) *http.Transport {
		return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: dns}
		}}
	}
	for _, tt := range []struct {
		name      string
		transport *http.Transport
		says      string
	}{
		{"refused", &http.Transport{}, "is the server up and reachable from here, and the endpoint's port right?"},
		{"refused by a proxy", &http.Transport{Proxy: http.ProxyURL(host)}, "is the proxy up, and its address right?"},
		{"no such host", lookup(&net.DNSError{Err: "no such host", Name: "h", IsNotFound: true}), "is the endpoint's host spelled right"},
		{"no name server", lookup(&net.DNSError{Err: "i/o timeout", Name: "h", IsTimeout: true}), "does this machine reach its name server?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := clientOf(t, gone.URL)
			c.HTTP = &http.Client{Transport: tt.transport}
			_, err := c.Do(context.Background(), checkFor("a"))
			if asAnswer(t, err).Final() {
				t.Error("final")
			}
			saysAll(t, err, "; "+tt.says)
		})
	}
}

// A server that nobody here wrote.
func TestClient_againstGoOmaha(t *testing.T) {
	server, err := wire.NewTrivialServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/update.gz"
	writeFile(t, file, "not really an update")
	server.SetVersion("2.0.0")
	if err := server.AddPackage(file, "update.gz"); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	defer func() { server.Destroy(); <-served }()

	c := clientOf(t, "http://"+server.Addr().String())
	resp, err := c.Do(context.Background(), &omaha.Request{
		SessionID: omaha.NewID(), MachineID: "m1",
		Apps: []omaha.AppRequest{{ID: omaha.FlatcarAppID, Version: "1.0.0", Channel: "stable", Check: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	app := resp.Apps[0]
	if app.Err != nil || len(app.Manifests) != 1 {
		t.Fatalf("got %+v", app)
	}
	p := app.Manifests[0].Packages[0]
	want := fmt.Sprintf("http://%s/packages/update.gz", server.Addr())
	if len(p.SHA1) != 20 || len(p.SHA256) != 32 || p.Size != 20 || p.URLs[0] != want {
		t.Errorf("got %+v, want URL %s", p, want)
	}
}

// What fails on one connection is tried again on another.
func TestClient_flakyServer(t *testing.T) {
	var n atomic.Int32
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) {
		case 1:
			hijack(t, "")(w, r)
		case 2:
			w.WriteHeader(http.StatusBadGateway)
		case 3:
			hijack(t, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<re")(w, r)
		default:
			answerNoUpdate(w)
		}
	})
	c := clientOf(t, srv.URL)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if resp, err := c.Do(ctx, checkFor("a")); err != nil || !resp.Apps[0].NoUpdate || n.Load() != 4 {
		t.Errorf("after %d attempts: %+v, %v", n.Load(), resp, err)
	}
}
