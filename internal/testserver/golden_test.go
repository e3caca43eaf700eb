package testserver_test

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// TestServer_answersAsRecorded replays the exchanges of testdata/wire, which
// were recorded from a running flatcar/nebraska (August 2026), against a server
// set up like that one, and compares the answers byte for byte.
func TestServer_answersAsRecorded(t *testing.T) {
	ts := testserver.New()
	app := ts.AddGroup("io.example.AppW", "stable", testserver.AMD64, testserver.Policy{})
	app.Publish(testserver.Release{
		Version:   "2.0.0",
		Codebases: []string{"http://127.0.0.1:8000/assets/"},
		Files: []testserver.File{
			{Name: "myapp-2.0.0.tar.gz", SHA1: "/HU7GjKqMpPM2/SXib7arZWaM0U=", Size: 100000},
			{Name: "extra.bin", SHA1: "extraSHA1=", SHA256: "258a6aa968903ee858483c1fda357d322d2c74b492c15f660518717a27174d53", Size: 42},
		},
	})
	ts.AddGroup("io.example.CtrW", "stable", testserver.AMD64, testserver.Policy{}).
		Publish(testserver.Release{Version: "1.5.0", Image: "registry.example/ns/app:1.5.0"})

	headers, err := filepath.Glob("testdata/wire/*.headers.txt")
	if err != nil || len(headers) != 19 {
		t.Fatalf("%d recorded exchanges (%v), want 19", len(headers), err)
	}
	for _, path := range headers {
		base := strings.TrimSuffix(path, ".headers.txt")
		if strings.HasSuffix(base, "19-updates-disabled") {
			app.ChangePolicy(func(p *testserver.Policy) { p.Disabled = true })
		}
		t.Run(filepath.Base(base), func(t *testing.T) { replay(t, ts, base) })
	}
}

func replay(t *testing.T, ts *testserver.Server, base string) {
	status, contentType := recordedHeaders(t, base+".headers.txt")
	method, answer := http.MethodPost, base+".response.xml"
	request, err := os.ReadFile(base + ".request.xml")
	if os.IsNotExist(err) {
		method, answer = http.MethodGet, base+".response.txt"
	} else if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(answer)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	ts.ServeHTTP(w, httptest.NewRequest(method, "/v1/update/", bytes.NewReader(request)))
	if w.Code != status || w.Header().Get("Content-Type") != contentType {
		t.Errorf("answer %d %q, recorded %d %q", w.Code, w.Header().Get("Content-Type"), status, contentType)
	}
	if got := w.Body.Bytes(); !bytes.Equal(got, want) {
		t.Errorf("answer differs from the recorded one\n got %s\nwant %s", got, want)
	}
}

func recordedHeaders(t *testing.T, path string) (status int, contentType string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(raw), "\n")
	if first != "HTTP/1.1 200 OK" {
		t.Fatalf("recorded %q", first)
	}
	header, err := textproto.NewReader(bufio.NewReader(strings.NewReader(rest + "\n"))).ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	return http.StatusOK, header.Get("Content-Type")
}
