package omaha

import (
	"crypto/sha256"
	"net/http"
	"net/url"

	"github.com/nebraska/omahaclient/internal/secrets"
)

// ReadResponse reads an answer to r without a connection.
func ReadResponse(r *Request, body []byte) (*Response, error) {
	doc, err := readDocument(body, &secrets.Set{})
	if err != nil {
		return nil, err
	}
	return &Response{Server: doc.Server, Apps: r.read(doc, "x64", &secrets.Set{})}, nil
}

// CheckProof verifies the proof of an answer to a request that was sent with this cup2key.
func CheckProof(key CUPKey, cup2key string, request, answer []byte, header http.Header) error {
	return (&question{key, cup2key, sha256.Sum256(request)}).check(header, answer)
}

// SignedQuery returns the query of a URL that asks for a proof.
func SignedQuery(key CUPKey, query string, body []byte) string {
	u := &url.URL{RawQuery: query}
	newQuestion(key, body).addTo(u)
	return u.RawQuery
}

// ArchName is the architecture sent for a GOARCH.
var ArchName = archName
