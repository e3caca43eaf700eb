package omaha

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// What to do about a failed request. It speaks to whoever runs the program: no name of this library helps there.

const (
	advicePath  = "is the endpoint's path right? Nebraska's is /v1/update/"
	adviceHTTPS = "the server speaks TLS there: the endpoint must begin with https://"
)

// nebraskaLimit is the size of the largest request that Nebraska reads, in bytes.
const nebraskaLimit = 64 << 10

func (x *exchange) adviceForStatus() string {
	switch status := x.answer.status; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "the server, or a proxy in front of it, wants other credentials: " +
			"an authorization header, a user and password in the endpoint, or a client certificate"
	case status == http.StatusProxyAuthRequired:
		return "the proxy wants credentials"
	case status == http.StatusNotImplemented:
		return "Nebraska answers so where the secret at the end of the endpoint's path is wrong"
	case status == http.StatusRequestEntityTooLarge, status == http.StatusBadRequest && len(x.body) > nebraskaLimit:
		return fmt.Sprintf("the request has %d bytes: ask about fewer apps at once, or let the server, and proxies in front of it, "+
			"take that much (Nebraska takes %d)", len(x.body), nebraskaLimit)
	case x.endpoint.Scheme == "http" && speaksTLS(x.answer.body):
		return adviceHTTPS
	case status == http.StatusBadRequest, status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone:
		return advicePath
	case status/100 == 3:
		return "set the endpoint to the address that it should have"
	default:
		return ""
	}
}

// speaksTLS tells that a body is what servers answer, status 400, to a request without TLS where they expect it: Go's, nginx and Apache.
func speaksTLS(body []byte) bool {
	body = bytes.ToLower(body)
	for _, words := range []string{"http request to an https server", "http request was sent to https port", "plain http to an ssl-enabled server port"} {
		if bytes.Contains(body, []byte(words)) {
			return true
		}
	}
	return false
}

// tlsAlert is how net/http quotes what other servers say then: a TLS alert (RFC 8446, section 5.1: type 21, version 3.x).
const tlsAlert = `malformed HTTP response "\x15\x03`

func (x *exchange) adviceFor(err error) string {
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plaintext tls.RecordHeaderError
	var redirect *redirectError
	var unsigned *unsignedError
	switch {
	case errors.As(err, &unsigned):
		return unsigned.advice
	case errors.As(err, &redirect):
		return "set the endpoint to the address that it should have"
	case errors.As(err, &authority):
		return "add the authority to the system's certificates or to the HTTP client's"
	case errors.As(err, &hostname):
		return "is the endpoint's host right?"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "is this machine's clock right?"
	case errors.As(err, &plaintext), errors.Is(err, http.ErrSchemeMismatch):
		return "the server does not speak TLS there: is the endpoint's scheme or port right?"
	case x.endpoint.Scheme == "http" && strings.Contains(err.Error(), tlsAlert):
		return adviceHTTPS
	}
	return adviceForDial(err)
}

// adviceForDial is for a connection that was not made.
func adviceForDial(err error) string {
	var dial *net.OpError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dial) && dial.Op == "proxyconnect":
		return "is the proxy up, and its address right?"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "is the endpoint's host spelled right, and known to this machine's name server?"
	case errors.As(err, &dns):
		return "does this machine reach its name server?"
	case dial != nil && dial.Op == "dial":
		return "is the server up and reachable from here, and the endpoint's port right?"
	}
	return ""
}
