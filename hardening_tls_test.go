package omahaclient_test

import (
	"crypto/tls"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
)

// oldServer speaks TLS up to a version, and counts the requests that got through.
func oldServer(t *testing.T, version uint16) (server *httptest.Server, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, requests
}

// Each of the transports that we make ourselves refuses TLS 1.0 and 1.1: towards the Omaha server, payload hosts and registries.
func TestTLS_oldVersionsAreRefused(t *testing.T) {
	const oldTLS, untrusted = "protocol version", "certificate"
	for _, tc := range []struct {
		name    string
		version uint16
		says    string
	}{
		{"TLS 1.0", tls.VersionTLS10, oldTLS},
		{"TLS 1.1", tls.VersionTLS11, oldTLS},
		{"TLS 1.2", tls.VersionTLS12, untrusted}, // it gets as far as the certificate, so that it was the version above
		{"TLS 1.3", tls.VersionTLS13, untrusted},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, requests := oldServer(t, tc.version)
			c, err := omahaclient.New(server.URL, app(appA), quick(), omahaclient.WithStateDir(t.TempDir()))
			must(t, err)
			refused(t, "the Omaha server", c.CheckNow(t.Context()), tc.says)
			must(t, c.Close())

			job := fetcher.Job{Dir: t.TempDir(), Shared: t.TempDir(), Progress: func(int64, int64) {}}
			job.Source = fetcher.Source{Name: "x", URLs: []string{server.URL}, SHA256: make([]byte, 32)}
			_, err = fetcher.HTTP{Tries: 1}.Fetch(t.Context(), job)
			refused(t, "a payload host", err, tc.says)

			host := strings.TrimPrefix(server.URL, "https://")
			job.Source.URLs = []string{"https://" + host + "/ns/app@sha256:" + strings.Repeat("0", 64)}
			_, err = fetcher.OCI{Tries: 1, MirrorsDir: os.DevNull, Platform: "linux/amd64"}.Fetch(t.Context(), job)
			refused(t, "a registry", err, tc.says)

			// A mirror with TLS settings of its own gets a transport of its own.
			mirrors := t.TempDir()
			must(t, os.Mkdir(filepath.Join(mirrors, "_default"), 0o700))
			must(t, os.WriteFile(filepath.Join(mirrors, "_default", "hosts.toml"), []byte("server = \""+server.URL+"\"\nskip_verify = false\n"), 0o600))
			job.Source.URLs = []string{"registry.example/ns/app@sha256:" + strings.Repeat("0", 64)}
			_, err = fetcher.OCI{Tries: 1, MirrorsDir: mirrors, Platform: "linux/amd64"}.Fetch(t.Context(), job)
			refused(t, "a mirror", err, tc.says)

			want(t, "requests that got through", requests.Load(), 0)
		})
	}
}

func refused(t *testing.T, who string, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: error %v; want one that says %q", who, err, says)
	}
}

// Nothing here switches the verification of certificates off; a node's own hosts.toml, which its administrator writes, can do it for
// that node's mirrors. Images are pinned by their digest all the same.
func TestTLS_verificationIsNeverSwitchedOff(t *testing.T) {
	var found []string
	must(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), "InsecureSkipVerify =") || strings.Contains(string(content), "InsecureSkipVerify:") {
			found = append(found, filepath.ToSlash(path))
		}
		return err
	}))
	want(t, "files", strings.Join(found, " "), "fetcher/oci_mirrors.go")
}
