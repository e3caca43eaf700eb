package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nebraska/omahaclient/trust"
)

// attach prints commands. Pushing takes a registry client with its credentials, and publishers have one.
func attach(t *tool, flags *flag.FlagSet, args []string) error {
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("%w: name one statement (NAME%s)", errUsage, trust.ReleaseSuffix)
	}
	name := flags.Arg(0)
	s, err := readStatement(name)
	if err != nil {
		return err
	}
	if _, err := readSigned(name); err != nil {
		return err
	}
	none := true
	for _, p := range s.Payloads {
		if !p.Image {
			continue
		}
		none = false
		base := filepath.Base(name)
		fmt.Fprintf(t.out, `# in the folder of %[1]s, with oras:
oras attach --artifact-type %[2]s \
  %[3]s \
  %[1]s:%[4]s \
  %[1]s%[6]s:%[5]s

# or with regctl:
regctl artifact put --artifact-type %[2]s \
  --subject %[3]s \
  --file %[1]s --file-media-type %[4]s \
  --file %[1]s%[6]s --file-media-type %[5]s
`, quote(base), trust.ArtifactType, quote(p.Name+"@"+p.Digest), trust.MediaTypeRelease, trust.MediaTypeSignature, trust.IndexSignatureSuffix)
	}
	if none {
		return fmt.Errorf("%s is about files, and there is no image to attach it to: upload it beside the first file", name)
	}
	return nil
}

// quote makes one word of a shell's of a text, where it is none.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
