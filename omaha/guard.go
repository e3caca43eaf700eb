package omaha

import (
	"bytes"
	"errors"
	"fmt"
)

// What an answer may have; a full answer for a full request has some thousand elements, ten deep.
const (
	maxElements   = 1 << 16
	maxDepth      = 32
	maxAttributes = 64 // per element
)

var errDocumentType = errors.New("document type or entity declaration, which Omaha has no use for")

// guard refuses, in one cheap pass and without allocating, documents that are built to exhaust a parser: entity
// declarations, deep nesting, masses of elements or attributes. encoding/xml has no such limits: it would take
// some hundred times the document's size. Whether the document is well-formed is left to encoding/xml.
func guard(doc []byte) error {
	elements, depth := 0, 0
	for {
		i := bytes.IndexByte(doc, '<')
		if i < 0 || i+1 == len(doc) {
			return nil
		}
		doc = doc[i+1:]
		switch doc[0] {
		case '?':
			doc = after(doc, "?>")
		case '!':
			switch {
			case bytes.HasPrefix(doc, []byte("!--")):
				doc = after(doc[3:], "-->")
			case bytes.HasPrefix(doc, []byte("![CDATA[")):
				doc = after(doc, "]]>")
			default:
				return errDocumentType
			}
		case '/':
			depth--
			doc = after(doc, ">")
		default:
			rest, attributes, closed := skipTag(doc)
			doc = rest
			elements++
			depth++
			if depth > maxDepth || elements > maxElements || attributes > maxAttributes {
				return fmt.Errorf("%w: more than %d levels, %d elements or %d attributes of one element",
					ErrTooLarge, maxDepth, maxElements, maxAttributes)
			}
			if closed {
				depth--
			}
		}
	}
}

// skipTag goes to the end of a start tag. A > within quotes does not end it.
func skipTag(doc []byte) (rest []byte, attributes int, closed bool) {
	for i := 0; i < len(doc); i++ {
		switch c := doc[i]; c {
		case '=':
			attributes++
		case '"', '\'':
			end := bytes.IndexByte(doc[i+1:], c)
			if end < 0 {
				return nil, attributes, false
			}
			i += end + 1
		case '>':
			return doc[i+1:], attributes, i > 0 && doc[i-1] == '/'
		}
	}
	return nil, attributes, false
}

// after returns what follows the first end in doc, nothing if there is none.
func after(doc []byte, end string) []byte {
	_, rest, _ := bytes.Cut(doc, []byte(end))
	return rest
}
