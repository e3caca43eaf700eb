package omaha

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	wire "github.com/kinvolk/go-omaha/omaha"

	"github.com/nebraska/omahaclient/internal/secrets"
)

// The answer's document: go-omaha's types where these serve, extended for what they drop on reading (metadata,
// several manifests, floors). Numbers and booleans are read as text, so that a junk one spoils its own app only.
type (
	responseElement struct {
		XMLName  xml.Name     `xml:"response"`
		Protocol string       `xml:"protocol,attr"`
		Server   string       `xml:"server,attr"`
		Apps     []appElement `xml:"app"`
	}
	appElement struct {
		ID     string               `xml:"appid,attr"`
		Status string               `xml:"status,attr"`
		Events []wire.EventResponse `xml:"event"`
		Check  *checkElement        `xml:"updatecheck"`
	}
	checkElement struct {
		Status    string            `xml:"status,attr"`
		URLs      []wire.URL        `xml:"urls>url"`
		Manifests []manifestElement `xml:"manifest"`
	}
	manifestElement struct {
		Version     string           `xml:"version,attr"`
		IsFloor     string           `xml:"is_floor,attr"`
		IsTarget    string           `xml:"is_target,attr"`
		FloorReason string           `xml:"floor_reason,attr"`
		Packages    []packageElement `xml:"packages>package"`
		Actions     []actionElement  `xml:"actions>action"`
	}
	packageElement struct {
		Name     string           `xml:"name,attr"`
		SHA1     string           `xml:"hash,attr"`
		SHA256   string           `xml:"hash_sha256,attr"`
		Size     string           `xml:"size,attr"`
		Required string           `xml:"required,attr"`
		Metadata *metadataElement `xml:"metadata"`
	}
	// metadataElement is flatcar/go-omaha's extension.
	metadataElement struct {
		ContentType string `xml:"content-type,attr"`
		Text        []byte `xml:",chardata"`
	}
	actionElement struct {
		Event                 string `xml:"event,attr"`
		DisplayVersion        string `xml:"DisplayVersion,attr"`
		SHA256                string `xml:"sha256,attr"`
		NeedsAdmin            string `xml:"needsadmin,attr"`
		IsDeltaPayload        string `xml:"IsDeltaPayload,attr"`
		DisablePayloadBackoff string `xml:"DisablePayloadBackoff,attr"`
		MaxFailureCountPerURL string `xml:"MaxFailureCountPerUrl,attr"`
		MetadataSignatureRsa  string `xml:"MetadataSignatureRsa,attr"`
		MetadataSize          string `xml:"MetadataSize,attr"`
		Deadline              string `xml:"deadline,attr"`
		MoreInfo              string `xml:"MoreInfo,attr"`
		Prompt                string `xml:"Prompt,attr"`
	}
)

var errProtocol = errors.New("wrong protocol")

// readDocument reads an answer, once. Its error wraps ErrEmptyResponse, ErrNotOmaha or ErrTooLarge, and shows nothing of what to hide.
func readDocument(body []byte, hide *secrets.Set) (*responseElement, error) {
	if err := guard(body); errors.Is(err, ErrTooLarge) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOmaha, err)
	}
	doc := new(responseElement)
	if err := xml.NewDecoder(bytes.NewReader(body)).Decode(doc); err != nil {
		return nil, explainXML(err, hide)
	}
	if doc.Protocol != "" && !strings.HasPrefix(doc.Protocol, "3.") {
		return nil, fmt.Errorf("%w: %w %q, this client speaks %s", ErrNotOmaha, errProtocol, foreign(hide, doc.Protocol, 20), protocol)
	}
	return doc, nil
}

// explainXML says what encoding/xml found, never "EOF".
func explainXML(err error, hide *secrets.Set) error {
	var wrongRoot xml.UnmarshalError
	var syntax *xml.SyntaxError
	switch {
	case errors.Is(err, io.EOF): // the end came before any element: there was an XML declaration at most
		return fmt.Errorf("%w: no element in it", ErrEmptyResponse)
	case errors.As(err, &wrongRoot):
		return fmt.Errorf("%w: %s", ErrNotOmaha, foreign(hide, string(wrongRoot), 100))
	case errors.As(err, &syntax) && strings.Contains(syntax.Msg, "unexpected EOF"):
		return fmt.Errorf("%w: the document is cut off in line %d", ErrNotOmaha, syntax.Line)
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: broken XML in line %d: %s", ErrNotOmaha, syntax.Line, foreign(hide, syntax.Msg, 100))
	default:
		return fmt.Errorf("%w: %s", ErrNotOmaha, foreign(hide, strings.TrimPrefix(err.Error(), "xml: "), 100))
	}
}
