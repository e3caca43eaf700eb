package main

import (
	"fmt"
	"strings"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

// output is a document with its signatures, to be written.
type output struct {
	file, signature      string
	document, signatures []byte
	keys                 []minisign.PrivateKey
	what                 string
}

func (o *output) signed() trust.Signed {
	return trust.Signed{Where: o.file, Document: o.document, Signatures: o.signatures}
}

func (o *output) write() error {
	if err := replace(o.file, o.document); err != nil {
		return err
	}
	return replace(o.signature, o.signatures)
}

// tell says what was written.
func (o *output) tell(t *tool) {
	var ids []string
	for _, key := range o.keys {
		ids = append(ids, fmt.Sprintf("%016X", key.ID()))
	}
	fmt.Fprintf(t.out, "%s: %s\n%s: signed by %s\n", o.file, o.what, o.signature, strings.Join(ids, " and "))
}

// readSigned reads a document and its signatures: for a statement as for an index they are in a file with one more suffix.
func readSigned(name string) (trust.Signed, error) {
	document, err := read(name, trust.MaxDocument)
	if err != nil {
		return trust.Signed{}, err
	}
	signatures, err := read(name+trust.IndexSignatureSuffix, trust.MaxDocument)
	if err != nil {
		return trust.Signed{}, fmt.Errorf("the signatures of %s: %w", name, err)
	}
	return trust.Signed{Where: name, Document: document, Signatures: signatures}, nil
}

// describe says what a statement is about.
func describe(s trust.Statement) string {
	return fmt.Sprintf("%s %s for %s on %s, sequence %d, expires %s",
		s.App, s.Version, channelNames(s.Channels), s.Arch, s.Sequence, s.Expires.Format("2006-01-02"))
}

func channelNames(channels []string) string {
	names := make([]string, len(channels))
	for i, channel := range channels {
		if names[i] = channel; channel == "" {
			names[i] = "no channel"
		}
	}
	return strings.Join(names, ", ")
}
