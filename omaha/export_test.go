package omaha

import (
	"net/http"
	"net/url"
)

// ReadResponse reads an answer to r without a connection.
func ReadResponse(r *Request, body []byte) (*Response, error) {
	doc, err := readDocument(body)
	if err != nil {
		return nil, err
	}
	return &Response{Server: doc.Server, Apps: r.read(doc, "x64")}, nil
}

// SetSign sets what signs a request's URL and checks its answer.
func (c *Client) SetSign(sign func(u *url.URL, body []byte) (check func(http.Header, []byte) error)) {
	c.sign = sign
}

// ArchName is the architecture sent for a GOARCH.
var ArchName = archName
