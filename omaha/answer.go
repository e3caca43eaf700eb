package omaha

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/nebraska/omahaclient/internal/secrets"
)

const (
	maxAnswer  = 1 << 20 // bytes of an answer, compressed and decompressed; a real one has some hundred per app
	sampleSize = 4 << 10 // bytes read of what is no answer
	shownSize  = 160     // bytes shown of it
)

// readBody reads and decompresses an answer of at most maxAnswer bytes. The server cannot say for how long: each
// attempt has its timeout.
func readBody(resp *http.Response, hide *secrets.Set) ([]byte, error) {
	if resp.ContentLength > maxAnswer {
		return nil, tooLarge()
	}
	raw := &limitedReader{r: resp.Body, left: maxAnswer}
	encoding := resp.Header.Get("Content-Encoding")
	switch strings.ToLower(encoding) {
	case "", "identity":
		return io.ReadAll(raw)
	case "gzip", "x-gzip":
		return unzip(raw)
	default:
		return nil, fmt.Errorf("%w: content encoding %q, which was not asked for", ErrNotOmaha, foreign(hide, encoding, 40))
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
		return nil, x.fail(errors.New(statusText(a.status)), x.adviceForStatus())
	}
	if len(bytes.TrimSpace(a.body)) == 0 {
		return nil, x.fail(ErrEmptyResponse, advicePath)
	}
	if x.question == nil { // else the body is the server's, whatever somebody made of its header
		if isWebPage(a) {
			return nil, x.fail(fmt.Errorf("%w but a web page", ErrNotOmaha), advicePath)
		}
		if err := checkContentType(a.contentType, &x.secrets); err != nil {
			return nil, x.fail(err, advicePath)
		}
	}
	doc, err := readDocument(a.body, &x.secrets)
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
func checkContentType(contentType string, hide *secrets.Set) error {
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
	charset := params["charset"]
	switch strings.ToLower(charset) {
	case "", "utf-8", "utf8", "us-ascii":
		return nil
	default:
		return fmt.Errorf("%w: its charset %q is not UTF-8", ErrNotOmaha, foreign(hide, charset, 40))
	}
}

// fail makes Do's error of what came last and why it cannot be used.
func (x *exchange) fail(err error, advice string) error {
	a := &x.answer
	e := &AnswerError{
		Endpoint:    shownURL(x.endpoint),
		StatusCode:  a.status,
		ContentType: foreign(&x.secrets, a.contentType, 100),
		Body:        x.shownBody(),
		Code:        ExitOmahaRequest,
		RetryAfter:  a.retryAfter,
		Err:         x.plain(err),
		advice:      advice,
	}
	switch {
	case a.status != 0 && !isSuccess(a.status):
		e.Code = ExitHTTPBase + ExitCode(a.status)
		if x.question != nil {
			e.Err = &unsignedStatusError{e.Err}
		}
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

// shownBody is how the answer begins.
func (x *exchange) shownBody() string {
	a := &x.answer
	text := string(a.body[:min(len(a.body), sampleSize)])
	if a.cut || len(text) < len(a.body) {
		text = x.secrets.HideCut(text)
	}
	return foreign(&x.secrets, text, shownSize)
}

func statusText(status int) string {
	if text := http.StatusText(status); text != "" {
		return strings.ToLower(text)
	}
	return "unknown status"
}
