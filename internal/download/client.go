package download

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// NewClient returns a client for payload hosts: HTTP/1.1 (HTTP/2 takes twice the CPU), no compression, TLS 1.2 at least, proxies from
// the environment, no cookies. Its idle connections are the caller's to close.
func NewClient() *http.Client {
	dialer := net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true,
		Protocols:              protocols,
	}}
}
