package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const maxDepth = 3 // a payload, in the list of payloads, in the statement

// marshal writes a document as people like to read it.
func marshal(doc any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(doc)
	return b.Bytes(), err
}

// unmarshal reads a document of a type into doc. encoding/json is lenient where a signed document must not be: it takes the last one
// of two fields of one name, does not look at the case of names, takes null for nothing, and replaces what is no UTF-8.
func unmarshal(document []byte, docType string, doc any) error {
	switch {
	case len(document) > MaxDocument:
		return fmt.Errorf("%d bytes are more than %d", len(document), MaxDocument)
	case !utf8.Valid(document):
		return errors.New("it is no UTF-8")
	case !json.Valid(document):
		return errors.New("it is no JSON document")
	}
	var head struct {
		Type   string `json:"type"`
		Format int    `json:"format"`
	}
	if err := walk(json.NewDecoder(bytes.NewReader(document)), 0); err != nil {
		return err
	}
	if err := json.Unmarshal(document, &head); err != nil {
		return err
	}
	switch {
	case head.Type != docType:
		return fmt.Errorf("type is %.64q, not %q", head.Type, docType)
	case head.Format != format:
		return fmt.Errorf("format is %d, and this program knows %d", head.Format, format)
	}
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.DisallowUnknownFields()
	return dec.Decode(doc)
}

// walk refuses deep nesting, null, and objects with two fields of one name. Names are lower-case letters and digits: so
// none is taken for another one of other case.
func walk(dec *json.Decoder, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if token == nil {
		return errors.New("null stands for nothing here")
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if depth == maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	seen := map[string]bool{}
	for dec.More() {
		if open == '{' {
			if err := fieldName(dec, seen); err != nil {
				return err
			}
		}
		if err := walk(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

func fieldName(dec *json.Decoder, seen map[string]bool) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	name, _ := token.(string)
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return fmt.Errorf("unknown field %.64q", name)
	}
	if seen[name] {
		return fmt.Errorf("field %.64q is there twice", name)
	}
	seen[name] = true
	return nil
}
