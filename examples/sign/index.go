package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

const indexDays = 30

// indexFlags describe an index.
type indexFlags struct {
	secretFlags
	documentFlags
	releases list
	out      string
}

// index signs the newest releases that a number of statements tell of.
func index(t *tool, flags *flag.FlagSet, args []string) error {
	x := indexFlags{}
	x.secretFlags.declare(flags)
	x.documentFlags.declare(flags, indexDays)
	flags.StringVar(&x.out, "out", "index.json", "`file` that is written; its signatures go to FILE"+trust.IndexSignatureSuffix)
	flags.Var(&x.releases, "pub", "public key that clients trust for releases, as `RW…` or a .pub file, where that is not -key; may be given several times")
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return fmt.Errorf("%w: name the statements (*%s) of the releases that are offered", errUsage, trust.ReleaseSuffix)
	}
	document := trust.Index{Sequence: x.sequence}
	for _, name := range flags.Args() {
		s, err := readStatement(name)
		if err != nil {
			return err
		}
		document.Heads = addHeads(document.Heads, s)
	}
	all := document.Heads
	document.Heads = slices.DeleteFunc(slices.Clone(all), func(h trust.Head) bool { return isOvertaken(h, all) })
	keys, err := x.load(t)
	if err != nil {
		return err
	}
	trusted := publicTexts(keys)
	if len(x.releases) > 0 {
		if trusted, err = readPublic(x.releases); err != nil {
			return err
		}
	}
	for _, name := range flags.Args() {
		if err := stillGood(trusted, name, document.Heads, t.now); err != nil {
			return err
		}
	}
	out, err := x.sign(t, document, keys)
	if err != nil {
		return err
	}
	out.tell(t)
	for _, h := range document.Heads {
		fmt.Fprintf(t.out, "  %s for %s on %s: %s, sequence %d\n", h.App, channelNames([]string{h.Channel}), h.Arch, h.Version, h.Sequence)
	}
	return nil
}

// isOvertaken reports whether a newer release for every architecture has taken the place of an architecture's own: clients read that
// architecture's head first, and would take the old release for the newest.
func isOvertaken(h trust.Head, heads []trust.Head) bool {
	return slices.ContainsFunc(heads, func(o trust.Head) bool {
		return o.Arch == trust.AnyArch && h.Arch != trust.AnyArch && o.Sequence > h.Sequence && o.Channel == h.Channel && strings.EqualFold(o.App, h.App)
	})
}

// addHeads adds what a statement is the newest of.
func addHeads(heads []trust.Head, s trust.Statement) []trust.Head {
	for _, channel := range s.Channels {
		head := trust.Head{App: s.App, Channel: channel, Arch: s.Arch, Version: s.Version, Sequence: s.Sequence}
		known := false
		for i, h := range heads {
			if strings.EqualFold(h.App, head.App) && h.Channel == head.Channel && h.Arch == head.Arch {
				known = true
				if head.Sequence > h.Sequence {
					heads[i] = head
				}
			}
		}
		if !known {
			heads = append(heads, head)
		}
	}
	return heads
}

// stillGood refuses to name a release as the newest that clients with these keys would refuse. Older ones are of no concern.
func stillGood(keys []string, name string, heads []trust.Head, now time.Time) error {
	s, err := readStatement(name)
	if err != nil {
		return err
	}
	newest := false
	for _, h := range heads {
		newest = newest || strings.EqualFold(h.App, s.App) && h.Arch == s.Arch && h.Sequence == s.Sequence
	}
	if !newest {
		return nil
	}
	signed, err := readSigned(name)
	if err != nil {
		return err
	}
	if err := judgeStatement(keys, signed, s, now); err != nil {
		return fmt.Errorf("%w; sign the release again, with the keys that clients trust now", err)
	}
	return nil
}

// sign completes an index, signs it, has it judged as a client would, and writes it.
func (x *indexFlags) sign(t *tool, document trust.Index, keys []minisign.PrivateKey) (*output, error) {
	before, err := indexesBefore(x.out, x.previous)
	if err != nil {
		return nil, err
	}
	if document.Sequence, err = x.next(before); err != nil {
		return nil, err
	}
	if document.Issued, document.Expires, err = x.times(t); err != nil {
		return nil, err
	}
	if document.Keys, err = readPublic(x.trusted); err != nil {
		return nil, err
	}
	b, err := document.Marshal()
	if err != nil {
		return nil, err
	}
	out := &output{
		file: x.out, signature: x.out + trust.IndexSignatureSuffix, document: b, signatures: trust.Sign(b, keys...), keys: keys,
		what: fmt.Sprintf("%d heads, sequence %d, expires %s", len(document.Heads), document.Sequence, document.Expires.Format("2006-01-02")),
	}
	for _, key := range publicTexts(keys) {
		verifier, err := trust.NewStatements([]string{key})
		if err != nil {
			return nil, err
		}
		for _, head := range document.Heads {
			if _, err := judgeIndex(verifier, out.signed(), head, t.now); err != nil {
				return nil, fmt.Errorf("a client would refuse %s: %w", out.file, err)
			}
		}
	}
	return out, out.write()
}

// indexesBefore finds the index named, and the one that is to be replaced.
func indexesBefore(target, previous string) ([]earlier, error) {
	var found []earlier
	for _, name := range []string{previous, target} {
		if name == "" {
			continue
		}
		if _, err := os.Lstat(name); name == target && name != previous && os.IsNotExist(err) {
			continue
		}
		x, err := readIndex(name)
		if err != nil {
			return nil, err
		}
		found = append(found, earlier{name, x.Sequence})
	}
	return found, nil
}

func readIndex(name string) (trust.Index, error) {
	document, err := read(name, trust.MaxDocument)
	if err != nil {
		return trust.Index{}, err
	}
	x, err := trust.ParseIndex(document)
	if err != nil {
		return x, fmt.Errorf("%s: %w", name, err)
	}
	return x, nil
}
