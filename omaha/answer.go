package omaha

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

const (
	maxAnswer  = 1 << 20 // bytes of an answer, compressed and decompressed; a real one has some hundred per app
	sampleSize = 4 << 10 // bytes read of what is no answer
	shownSize  = 160     // bytes shown of it
)

const advicePath = "is the endpoint's path right? Nebraska's is /v1/update/"

// readBody reads and decompresses an answer of at most maxAnswer bytes. The server cannot say for how long: each
// attempt has its timeout.
func readBody(resp *http.Response) ([]byte, error) {
	if resp.ContentLength > maxAnswer {
		return nil, tooLarge()
	}
	raw := &limitedReader{r: resp.Body, left: maxAnswer}
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return io.ReadAll(raw)
	case "gzip", "x-gzip":
		return unzip(raw)
	default:
		return nil, fmt.Errorf("%w: content encoding %q, which was not asked for", ErrNotOmaha, printable(encoding, 40))
	}
}

func unzip(raw io.Reader) ([]byte, error) {
	zr, err := gzip.NewReader(raw)
	if errors.Is(err, gzip.ErrHeader) {
		return nil, fmt.Errorf("%w: it is not compressed as its header says", ErrNotOmaha)
	}
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(&limitedReader{r: zr, left: maxAnswer})
	if errors.Is(err, gzip.ErrChecksum) {
		return nil, fmt.Errorf("%w: its compression is broken", ErrNotOmaha)
	}
	return body, err
}

// limitedReader fails with ErrTooLarge past its limit, unlike io.LimitReader, which pretends that the end came.
type limitedReader struct {
	r    io.Reader
	left int
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if len(p) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if n > l.left {
		return l.left, tooLarge()
	}
	l.left -= n
	return n, err
}

func tooLarge() error { return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxAnswer) }

// readAnswer makes a document of what came, or says what came instead.
func (x *exchange) readAnswer() (*responseElement, error) {
	a := &x.answer
	if !isSuccess(a.status) {
		return nil, x.fail(errors.New(statusText(a.status)), adviceForStatus(a.status))
	}
	if len(bytes.TrimSpace(a.body)) == 0 {
		return nil, x.fail(ErrEmptyResponse, advicePath)
	}
	if x.question == nil { // else the body is the server's, whatever somebody made of its header
		if isWebPage(a) {
			return nil, x.fail(fmt.Errorf("%w but a web page", ErrNotOmaha), advicePath)
		}
		if err := checkContentType(a.contentType); err != nil {
			return nil, x.fail(err, advicePath)
		}
	}
	doc, err := readDocument(a.body)
	switch {
	case errors.Is(err, ErrEmptyResponse):
		return nil, x.fail(err, "Nebraska answers so where it cannot read the request; look into the server's log")
	case errors.Is(err, errProtocol):
		return nil, x.fail(err, "")
	case err != nil:
		return nil, x.fail(err, advicePath)
	}
	return doc, nil
}

func isWebPage(a *answer) bool {
	start := bytes.ToLower(bytes.TrimSpace(a.body[:min(len(a.body), 64)]))
	return strings.HasPrefix(strings.ToLower(a.contentType), "text/html") ||
		bytes.HasPrefix(start, []byte("<!doctype html")) || bytes.HasPrefix(start, []byte("<html"))
}

// checkContentType takes XML in UTF-8, and no content type at all.
func checkContentType(contentType string) error {
	if contentType == "" {
		return nil
	}
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = contentType
	}
	if kind != "text/xml" && kind != "application/xml" && !strings.HasSuffix(kind, "+xml") {
		return fmt.Errorf("%w: its content type is not XML", ErrNotOmaha)
	}
	switch charset := strings.ToLower(params["charset"]); charset {
	case "", "utf-8", "utf8", "us-ascii":
		return nil
	default:
		return fmt.Errorf("%w: its charset %q is not UTF-8", ErrNotOmaha, printable(charset, 40))
	}
}

// fail makes Do's error of what came last and why it cannot be used.
func (x *exchange) fail(err error, advice string) error {
	a := &x.answer
	e := &AnswerError{
		Endpoint:    shownURL(x.endpoint),
		StatusCode:  a.status,
		ContentType: x.secrets.Hide(printable(a.contentType, 100)),
		Body:        printable(x.secrets.Hide(string(a.body[:min(len(a.body), sampleSize)])), shownSize),
		Code:        ExitOmahaRequest,
		RetryAfter:  a.retryAfter,
		Err:         x.plain(err),
		advice:      advice,
	}
	switch {
	case a.status != 0 && !isSuccess(a.status):
		e.Code = ExitHTTPBase + ExitCode(a.status)
	case errors.Is(err, ErrUnsigned):
		e.Code = ExitResponseInvalid // not 12 or 18, which speak of a payload
	case errors.Is(err, ErrEmptyResponse):
		e.Code = ExitEmptyResponse
	case errors.Is(err, ErrTooLarge), errors.Is(err, errProtocol):
		e.Code = ExitResponseInvalid
	case errors.Is(err, ErrNotOmaha):
		e.Code = ExitResponseXML
	}
	return e
}

func statusText(status int) string {
	if text := http.StatusText(status); text != "" {
		return strings.ToLower(text)
	}
	return "unknown status"
}

func adviceForStatus(status int) string {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "the server, or a proxy in front of it, wants other credentials (Authorize, client certificate)"
	case status == http.StatusProxyAuthRequired:
		return "the proxy wants credentials"
	case status == http.StatusNotImplemented:
		return "Nebraska answers so where the secret at the end of the endpoint's path is wrong"
	case status == http.StatusRequestEntityTooLarge:
		return "ask for fewer apps at once (Request.Split)"
	case status == http.StatusBadRequest:
		return "Nebraska answers so to more than 64 KiB (Request.Split); " + advicePath
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone:
		return advicePath
	case status/100 == 3:
		return "set the endpoint to the address that it should have"
	default:
		return ""
	}
}

func adviceFor(err error) string {
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
	}
	return ""
}
