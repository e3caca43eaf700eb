package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/omaha"
)

const appID = "io.example.App"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal is a log that several goroutines write.
type journal struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// start runs the proxy in front of a server, and returns the endpoint of its clients. It ends with the test.
func start(t *testing.T, to string, log io.Writer, trust bool, keys ...keyFile) string {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(log, nil))
	loaded, err := loadKeys(keys, logger)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(u, loaded, trust, logger)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, p, logger) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		p.forward.Transport.(*http.Transport).CloseIdleConnections()
	})
	return "http://" + listener.Addr().String() + "/v1/update/"
}

// newKeyFile has a key made by -generate, and returns the line that it prints.
func newKeyFile(t *testing.T, id string) (k keyFile, line string) {
	t.Helper()
	k = keyFile{id, filepath.Join(t.TempDir(), "key.pem")}
	var out bytes.Buffer
	if err := run(context.Background(), []string{"-generate", "-key", k.id + "=" + k.path}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	return k, strings.TrimSpace(out.String())
}

// newServer is a Nebraska with an update of the app.
func newServer(t *testing.T) *testserver.Server {
	t.Helper()
	server := testserver.New(testserver.WithSecret("s3cret"))
	server.AddGroup(appID, "stable", testserver.AnyArch, testserver.Policy{}).Publish(testserver.Release{
		Version: "2.0.0", Files: []testserver.File{{Name: "app.bin", Content: []byte("new")}},
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// update does one round of a client, with some keys or none.
func update(t *testing.T, endpoint string, keys ...string) error {
	t.Helper()
	opts := []omahaclient.Option{
		omahaclient.WithApp(appID, "1.0.0", omahaclient.WithChannel("stable")),
		omahaclient.WithStateDir(t.TempDir()),
		omahaclient.WithSchedule(omahaclient.Schedule{Min: 10 * time.Millisecond, Max: 20 * time.Millisecond}),
	}
	if len(keys) > 0 {
		opts = append(opts, omahaclient.WithCUPKeys(keys...))
	}
	client, err := omahaclient.New(endpoint, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	updated := errors.New("no update")
	for offer := range client.UpdatesOnce(ctx) {
		updated = offer.Ack(nil)
	}
	return errors.Join(updated, client.Err())
}

// A client that demands signed answers is updated through the proxy, secret suffix and all, and so is one that does not; a client
// with a new key first as well. No secret is in the log.
func TestProxy_updates(t *testing.T) {
	k, line := newKeyFile(t, "1")
	_, unknown := newKeyFile(t, "2")
	for name, keys := range map[string][]string{"signed": {line}, "unsigned": nil, "new key first": {unknown, line}} {
		t.Run(name, func(t *testing.T) {
			server, log := newServer(t), &journal{}
			endpoint := start(t, strings.TrimSuffix(server.URL(), "s3cret/"), log, false, k) + "s3cret/"
			if err := update(t, endpoint, keys...); err != nil {
				t.Fatalf("%v; log %s", err, log)
			}
			requests := server.Requests()
			last := requests[len(requests)-1]
			if len(last.Apps) != 1 || len(last.Apps[0].Events) == 0 && len(requests) < 2 {
				t.Errorf("requests %+v", requests)
			}
			if strings.Contains(log.String(), "s3cret") || !strings.Contains(log.String(), line) || strings.Contains(log.String(), "PRIVATE") {
				t.Errorf("log %s", log)
			}
		})
	}
}

// Without the proxy, the client of its keys believes nothing.
func TestProxy_missing(t *testing.T) {
	_, line := newKeyFile(t, "1")
	key, err := omaha.ParseCUPKey(line)
	if err != nil {
		t.Fatal(err)
	}
	c := &omaha.Client{Endpoint: newServer(t).URL(), CUPKeys: []omaha.CUPKey{key}, RetryMax: -1}
	defer c.CloseIdleConnections()
	if _, err := c.Do(context.Background(), &omaha.Request{MachineID: "m", Apps: []omaha.AppRequest{{ID: appID, Check: true}}}); !errors.Is(err, omaha.ErrUnsigned) {
		t.Errorf("got %v", err)
	}
}

func post(t *testing.T, method, url, body string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(content))
	return resp
}

// What is no update stays outside, and so does what could not be signed.
func TestProxy_refuses(t *testing.T) {
	var mu sync.Mutex
	passed := 0
	behind := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		passed++
	}))
	defer behind.Close()
	k, _ := newKeyFile(t, "1")
	endpoint := start(t, behind.URL, io.Discard, false, k)
	root := strings.TrimSuffix(endpoint, "/v1/update/")
	const good = "?cup2key=1:nonce"
	for _, tt := range []struct {
		name, method, url, body string
		header                  []string
		status                  int
	}{
		{"another path", "POST", root + "/api/apps", "", nil, 404},
		{"a path beside", "POST", root + "/v1/updates", "", nil, 404},
		{"a path below", "POST", endpoint + "a/b", "", nil, 404},
		{"a way out", "POST", endpoint + "../../api", "", nil, 404},
		{"an encoded way out", "POST", endpoint + "%2e%2e", "", nil, 404},
		{"an encoded slash", "POST", endpoint + "a%2fb", "", nil, 404},
		{"GET", "GET", endpoint, "", nil, 405},
		{"too large", "POST", endpoint, strings.Repeat("x", maxRequest+1), nil, 413},
		{"compressed", "POST", endpoint, "x", []string{"Content-Encoding", "gzip"}, 415},
		{"unknown key", "POST", endpoint + "?cup2key=2:nonce", "x", nil, 400},
		{"no nonce", "POST", endpoint + "?cup2key=1", "x", nil, 400},
		{"two keys", "POST", endpoint + good + "&cup2key=1:other", "x", nil, 400},
		{"long nonce", "POST", endpoint + good + strings.Repeat("x", 300), "x", nil, 400},
		{"another request's hash", "POST", endpoint + good + "&cup2hreq=" + strings.Repeat("0", 64), "x", nil, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if resp := post(t, tt.method, tt.url, tt.body, tt.header...); resp.StatusCode != tt.status || resp.Header.Get("X-Cup-Server-Proof") != "" {
				t.Errorf("got %d, %v", resp.StatusCode, resp.Header)
			}
		})
	}
	mu.Lock()
	defer mu.Unlock()
	if passed != 0 {
		t.Errorf("%d requests passed", passed)
	}
}

// Only what Nebraska answers with success, and within bounds, is signed; its own headers of that name never pass.
func TestProxy_answers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int // from Nebraska
		body   string
		header []string
		want   int
		signed bool
	}{
		{"good", 200, "answer", nil, 200, true},
		{"at the limit", 200, strings.Repeat("x", maxAnswer), nil, 200, true},
		{"too large", 200, strings.Repeat("x", maxAnswer+1), nil, 502, false},
		{"empty", 200, "", nil, 200, false},
		{"failed", 500, "failed", nil, 500, false},
		{"redirect", 307, "", []string{"Location", "/elsewhere"}, 307, false},
		{"compressed", 200, "answer", []string{"Content-Encoding", "gzip"}, 502, false},
		{"signed by somebody else", 500, "failed", []string{"X-Cup-Server-Proof", "old", "ETag", `"old"`}, 500, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Accept-Encoding") != "" {
					t.Error("asked for compression")
				}
				for i := 0; i < len(tt.header); i += 2 {
					w.Header().Set(tt.header[i], tt.header[i+1])
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			}))
			defer behind.Close()
			k, _ := newKeyFile(t, "1")
			private, err := readKey(k.path)
			if err != nil {
				t.Fatal(err)
			}
			endpoint := start(t, behind.URL, io.Discard, false, k)
			resp := post(t, "POST", endpoint+"?cup2key=1%3Anonce", "request", "Accept-Encoding", "gzip")
			proof := resp.Header.Get("X-Cup-Server-Proof")
			if resp.StatusCode != tt.want || (proof != "") != tt.signed || (resp.Header.Get("ETag") == `W/"`+proof+`"`) != tt.signed {
				t.Fatalf("got %d, %v", resp.StatusCode, resp.Header)
			}
			if !tt.signed {
				return
			}
			_, hash, _ := strings.Cut(proof, ":")
			_, wantHash, _ := strings.Cut(testserver.Proof(private, "1:nonce", []byte("request"), []byte(tt.body)), ":")
			if hash != wantHash {
				t.Errorf("hash %s; want %s", hash, wantHash)
			}
			if tt.name == "good" && post(t, "POST", endpoint, "request").Header.Get("X-Cup-Server-Proof") != "" {
				t.Error("signed, though not asked to")
			}
		})
	}
}

// Nebraska sees the client's address, and what came in the header only where the proxy is told to trust it.
func TestProxy_forwardedFor(t *testing.T) {
	seen := make(chan string, 1)
	behind := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- strings.Join(r.Header["X-Forwarded-For"], "|")
	}))
	defer behind.Close()
	k, _ := newKeyFile(t, "1")
	for trust, want := range map[bool]string{false: "127.0.0.1", true: "192.0.2.1, 127.0.0.1"} {
		post(t, "POST", start(t, behind.URL, io.Discard, trust, k), "x", "X-Forwarded-For", "192.0.2.1")
		if got := <-seen; got != want {
			t.Errorf("trust %v: %q; want %q", trust, got, want)
		}
	}
}

// A Nebraska that does not answer is a 502, and the log says why without the secret.
func TestProxy_outage(t *testing.T) {
	behind := httptest.NewServer(http.NotFoundHandler())
	address := behind.URL
	behind.Close()
	k, _ := newKeyFile(t, "1")
	log := &journal{}
	resp := post(t, "POST", start(t, address, log, false, k)+"s3cret?cup2key=1:n", "x")
	if resp.StatusCode != 502 || !strings.Contains(log.String(), "refused") || strings.Contains(log.String(), "s3cret") {
		t.Errorf("got %d; log %s", resp.StatusCode, log)
	}
}

func TestRun_mistakes(t *testing.T) {
	k, _ := newKeyFile(t, "1")
	dir := t.TempDir()
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	p384, empty := filepath.Join(dir, "p384.pem"), filepath.Join(dir, "empty.pem")
	for path, content := range map[string][]byte{p384: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), empty: nil} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		args []string
		says string
	}{
		{"no key", nil, "-generate"},
		{"an argument", []string{"x"}, "no flag"},
		{"no file", []string{"-key", dir + "/none.pem"}, "no such file"},
		{"no PEM", []string{"-key", empty}, "no PEM block"},
		{"another curve", []string{"-key", p384}, "P-256"},
		{"a bad id", []string{"-key", "a b=" + k.path}, "letters"},
		{"an empty id", []string{"-key", "=" + k.path}, "ID=FILE"},
		{"an id twice", []string{"-key", k.path, "-key", k.path}, "given twice"},
		{"two to generate", []string{"-generate", "-key", "a", "-key", "b"}, "one -key"},
		{"a key that is there", []string{"-generate", "-key", k.path}, "exists"},
		{"a URL with a password", []string{"-key", k.path, "-to", "http://a:hunter2@example.com"}, "-to"},
		{"no URL", []string{"-key", k.path, "-to", "example.com"}, "-to"},
		{"no address", []string{"-key", k.path, "-listen", "nonsense"}, "nonsense"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			err := run(ctx, tt.args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v; want %q", err, tt.says)
			}
		})
	}
}

// A key file of openssl's is read, and one that -generate wrote is for its owner alone.
func TestKeys(t *testing.T) {
	k, line := newKeyFile(t, "7")
	info, err := os.Stat(k.path)
	if err != nil || filepath.Separator == '/' && info.Mode().Perm() != fs.FileMode(0o600) || !strings.HasPrefix(line, "7:MF") {
		t.Errorf("%v, %v, line %q", info, err, line)
	}
	key, err := readKey(k.path)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "openssl.pem")
	content := append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 1}}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := readKey(path); err != nil || !again.Equal(key) {
		t.Errorf("got %v, %v", again, err)
	}
}

// It says where it listens, answers there, and ends when it is told to.
func TestRun(t *testing.T) {
	k, _ := newKeyFile(t, "1")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	lines, log := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-key", k.path, "-listen", "127.0.0.1:0"}, io.Discard, log) }()
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		if _, address, found := strings.Cut(scanner.Text(), "address="); found {
			address, _, _ = strings.Cut(address, " ")
			if resp := post(t, "POST", "http://"+address+"/", ""); resp.StatusCode != 404 {
				t.Errorf("got %d", resp.StatusCode)
			}
			break
		}
	}
	lines.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}
