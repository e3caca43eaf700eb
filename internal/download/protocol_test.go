package download_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A host that speaks both is asked by HTTP/1.1: HTTP/2 takes twice the CPU.
func TestNewClient_asksByHTTP1(t *testing.T) {
	data := blob(size)
	h := newHost(data)
	both := httptest.NewUnstartedServer(h)
	both.EnableHTTP2 = true
	both.StartTLS()
	t.Cleanup(both.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(both.Certificate())

	job := newJob(t, data, both.URL+"/blob.bin") // its client is NewClient's
	transportOf(job.Client).TLSClientConfig.RootCAs = trusted
	fetched(t, job, data)
	wantMajor(t, h, 1)

	// The host does speak HTTP/2: to a client that wants it.
	job = newJob(t, data, both.URL+"/blob.bin")
	job.Client = &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	t.Cleanup(job.Client.CloseIdleConnections)
	fetched(t, job, data)
	wantMajor(t, h, 2)
}

// wantMajor wants the host's last request to be by this version of HTTP.
func wantMajor(t *testing.T, h *host, major int) {
	t.Helper()
	requests := h.requests()
	if last := requests[len(requests)-1]; last.ProtoMajor != major {
		t.Errorf("asked by %s; want HTTP/%d", last.Proto, major)
	}
}
