package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"aead.dev/minisign"
)

const (
	untrustedPrefix = "untrusted comment:"
	trustedPrefix   = "trusted comment:"
)

// Sign returns the file of signatures for a document: one by each key, at most MaxSignatures, in minisign's prehashed form, as
// minisign itself writes it. The trusted comment tells people what was signed; nothing is decided by it. The same document and keys give the same bytes.
func Sign(document []byte, keys ...minisign.PrivateKey) []byte {
	r := minisign.NewReader(bytes.NewReader(document))
	_, _ = io.Copy(io.Discard, r) // memory does not fail
	var signatures []byte
	for _, key := range keys {
		comment := fmt.Sprintf("minisign key %016X", key.ID())
		signatures = append(signatures, r.SignWithComments(key, describe(document), comment)...)
	}
	return signatures
}

// describe says what a document is, in one line.
func describe(document []byte) string {
	if s, err := ParseStatement(document); err == nil {
		return fmt.Sprintf("%s app=%s version=%s sequence=%d", statementType, s.App, s.Version, s.Sequence)
	}
	if x, err := ParseIndex(document); err == nil {
		return fmt.Sprintf("%s sequence=%d", indexType, x.Sequence)
	}
	var other struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(document, &other) == nil && checkText("type", other.Type) == nil {
		return other.Type
	}
	return fmt.Sprintf("%d bytes", len(document))
}

// signers returns those of the keys that signed the document. An error, which wraps ErrMalformed, says that this is no file of signatures.
func signers(signed Signed, keys []minisign.PublicKey) ([]minisign.PublicKey, error) {
	blocks, err := split(signed.Signatures)
	if err != nil {
		return nil, malformed("signatures", err)
	}
	var found []minisign.PublicKey
	for _, block := range blocks {
		var signature minisign.Signature
		if signature.UnmarshalText(block) != nil {
			continue // of a kind that is not known yet, say; it proves nothing, and takes nothing from the others
		}
		for _, key := range keys {
			if key.ID() == signature.KeyID && !contains(found, key) && minisign.Verify(key, signed.Document, block) {
				found = append(found, key)
			}
		}
	}
	return found, nil
}

func contains(keys []minisign.PublicKey, key minisign.PublicKey) bool {
	return slices.ContainsFunc(keys, func(k minisign.PublicKey) bool { return k.Equal(key) })
}

// split cuts a file of signatures into its signatures, of four lines each. Lines may end as on Windows, and empty
// ones may stand between signatures.
func split(file []byte) ([][]byte, error) {
	if len(file) > MaxDocument {
		return nil, fmt.Errorf("%d bytes are more than %d", len(file), MaxDocument)
	}
	var blocks [][]byte
	lines := strings.Split(string(file), "\n")
	for i := 0; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) == "" {
			continue
		}
		if len(blocks) == MaxSignatures {
			return nil, fmt.Errorf("there are more than %d", MaxSignatures)
		}
		if i+4 > len(lines) || !strings.HasPrefix(lines[i], untrustedPrefix) || !strings.HasPrefix(lines[i+2], trustedPrefix) {
			return nil, fmt.Errorf("line %d: a minisign signature has four lines, and begins with %q", i+1, untrustedPrefix)
		}
		blocks = append(blocks, block([4]string(lines[i:i+4])))
		i += 3
	}
	if len(blocks) == 0 {
		return nil, errors.New("there are none")
	}
	return blocks, nil
}

// block is one signature in the form that the library reads.
func block(lines [4]string) []byte {
	// The library wants the comment's space, even where the comment is empty; the comment is not signed. Windows' line ends it knows.
	lines[0] = untrustedPrefix + " " + strings.TrimPrefix(lines[0], untrustedPrefix)
	return []byte(strings.Join(lines[:], "\n") + "\n")
}
