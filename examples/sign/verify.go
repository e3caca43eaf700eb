package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/nebraska/omahaclient/trust"
)

// verifyFlags say what a client is like, and what it is offered.
type verifyFlags struct {
	keys                        list
	app, channel, arch, version string
	channelGiven                bool
	minimum                     uint64
	files                       string
	without                     bool
}

// verify lets the client's own code decide.
func verify(t *tool, flags *flag.FlagSet, args []string) error {
	var v verifyFlags
	flags.Var(&v.keys, "pub", "public key that the client trusts, as `RW…` or a .pub file; may be given several times")
	flags.StringVar(&v.app, "app", "", "`id` of the client's app; without it the document's")
	flags.Func("channel", "`name` of the channel that the client follows; without it each of the document's", func(s string) error {
		v.channel, v.channelGiven = s, true
		return nil
	})
	flags.StringVar(&v.arch, "arch", "", "`architecture` of the client's machine by Go's name (amd64, arm64 …); without it the document's")
	flags.StringVar(&v.version, "version", "", "`version` that the server offers; without it the statement's")
	flags.Uint64Var(&v.minimum, "min-sequence", 0, "`number` that the client has from WithMinSequence")
	flags.StringVar(&v.files, "files", "", "`folder` with the release's files; without it the statement's")
	flags.BoolVar(&v.without, "no-files", false, "do not look at the release's files")
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() != 1 || len(v.keys) == 0 {
		return fmt.Errorf("%w: name one statement (NAME%s), or an index, and the client's keys with -pub", errUsage, trust.ReleaseSuffix)
	}
	keys, err := readPublic(v.keys)
	if err != nil {
		return err
	}
	verifier, err := trust.NewStatements(keys, trust.WithMinimumSequence(v.minimum))
	if err != nil {
		return err
	}
	name := flags.Arg(0)
	signed, err := readSigned(name)
	if err != nil {
		return err
	}
	if isStatement(name) {
		return v.statement(t, verifier, signed)
	}
	return v.index(t, verifier, signed)
}

// statement judges a statement, and the files beside it.
func (v *verifyFlags) statement(t *tool, verifier *trust.Statements, signed trust.Signed) error {
	s, err := readStatement(signed.Where)
	if err != nil {
		return err
	}
	channels := s.Channels
	if v.channelGiven {
		channels = []string{v.channel}
	}
	for _, channel := range channels {
		claim := claimFor(s, channel, t.now)
		claim.AppID, claim.Arch, claim.Version = either(v.app, claim.AppID), either(v.arch, claim.Arch), either(v.version, claim.Version)
		if err := judge(verifier, signed, claim); err != nil {
			return fmt.Errorf("refused for app %s, channel %q, %s: %w", claim.AppID, channel, claim.Arch, err)
		}
	}
	if !v.without {
		if err := v.compare(t, s, either(v.files, filepath.Dir(signed.Where))); err != nil {
			return err
		}
	}
	fmt.Fprintf(t.out, "accepted: %s\n", describe(s))
	return nil
}

func either(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// compare looks at the files that a statement lists.
func (v *verifyFlags) compare(t *tool, s trust.Statement, folder string) error {
	for _, p := range s.Payloads {
		if p.Image {
			fmt.Fprintf(t.out, "image: %s@%s (the registry is not asked)\n", p.Name, p.Digest)
			continue
		}
		if filepath.Base(p.Name) != p.Name {
			return fmt.Errorf("refused: %q is no plain file name", p.Name)
		}
		f, err := measure(filepath.Join(folder, p.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: the statement lists it; -files names another folder, -no-files leaves the files out", err)
		case err != nil:
			return err
		case f.size != p.Size:
			return fmt.Errorf("refused: %s has %d bytes, and was signed with %d", p.Name, f.size, p.Size)
		case "sha256:"+f.sha256 != p.Digest:
			return fmt.Errorf("refused: %s was changed after it was signed: its SHA-256 is %s, signed was %s", p.Name, f.sha256, p.Digest)
		}
		fmt.Fprintf(t.out, "file: %s, %d bytes, as it was signed\n", p.Name, p.Size)
	}
	return nil
}

// index judges the heads of an index.
func (v *verifyFlags) index(t *tool, verifier *trust.Statements, signed trust.Signed) error {
	x, err := readIndex(signed.Where)
	if err != nil {
		return err
	}
	heads := x.Heads
	if v.app != "" || v.channelGiven || v.arch != "" {
		first := x.Heads[0]
		wanted := trust.Head{App: either(v.app, first.App), Channel: first.Channel, Arch: either(v.arch, first.Arch)}
		if v.channelGiven {
			wanted.Channel = v.channel
		}
		heads = []trust.Head{wanted}
	}
	var found []trust.Head
	for _, head := range heads {
		head, err := judgeIndex(verifier, signed, head, t.now)
		if err != nil {
			return fmt.Errorf("refused: %w", err)
		}
		if !slices.Contains(found, head) {
			found = append(found, head)
		}
	}
	fmt.Fprintf(t.out, "accepted: an index with sequence %d, expires %s\n", x.Sequence, x.Expires.Format("2006-01-02"))
	for _, h := range found {
		fmt.Fprintf(t.out, "  %s for %s on %s: %s, sequence %d\n", h.App, channelNames([]string{h.Channel}), h.Arch, h.Version, h.Sequence)
	}
	return nil
}
