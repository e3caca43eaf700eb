package main

import (
	"flag"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

const releaseDays = 365

// releaseFlags describe one release.
type releaseFlags struct {
	secretFlags
	documentFlags
	app, arch, version string
	channels           list
	image              string
	out                string
	metadata           bool
}

// documentFlags are what statements and indexes have in common.
type documentFlags struct {
	sequence uint64
	previous string
	days     int
	trusted  list
}

func (d *documentFlags) declare(flags *flag.FlagSet, days int) {
	flags.Uint64Var(&d.sequence, "sequence", 0,
		"`number` of this document, above that of the one before: 1, 2, 3 …, or the time by $(date +%s); without it the next after -previous")
	flags.StringVar(&d.previous, "previous", "", "`file` of the document that this one follows: its sequence must be lower")
	flags.IntVar(&d.days, "days", days, "how many days the document is good for; from then on clients refuse it")
	flags.Var(&d.trusted, "trust",
		"public key, as `RW…` or a .pub file, that clients are to trust from now on, in place of those so far; all of them; each signs too, by -key")
}

// times returns when a document is issued and when it expires.
func (d *documentFlags) times(t *tool) (issued, expires time.Time, err error) {
	if d.days < 1 {
		return issued, expires, fmt.Errorf("%w: -days %d is below 1", errUsage, d.days)
	}
	issued = t.now.UTC().Truncate(time.Second)
	return issued, issued.AddDate(0, 0, d.days), nil
}

// release signs a statement about one release.
func release(t *tool, flags *flag.FlagSet, args []string) error {
	var r releaseFlags
	r.secretFlags.declare(flags)
	r.documentFlags.declare(flags, releaseDays)
	flags.StringVar(&r.app, "app", "", "`id` of the app, as the update server has it")
	flags.Var(&r.channels, "channel", "`name` of a channel that the release is for; may be given several times; \"\" is for apps that follow none")
	flags.StringVar(&r.arch, "arch", "", "`architecture` by Go's name (amd64, arm64 …), or "+trust.AnyArch)
	flags.StringVar(&r.version, "version", "", "`version`, exactly as the update server will offer it")
	flags.StringVar(&r.image, "image", "", "`reference` of a container image by digest: registry.example/ns/app@sha256:…")
	flags.StringVar(&r.out, "out", "",
		"`name` before "+trust.ReleaseSuffix+" of what is written; without it the first file's, so that it stands beside it; for an image its own and the version")
	flags.BoolVar(&r.metadata, "metadata", false, "print the statement as metadata of a package, and nothing else")
	if err := parse(flags, args); err != nil {
		return err
	}
	if err := r.check(flags.NArg()); err != nil {
		return err
	}
	files, payloads, err := payloadsOf(flags.Args(), r.image)
	if err != nil {
		return err
	}
	s := trust.Statement{App: r.app, Channels: r.channels, Arch: r.arch, Version: r.version, Sequence: r.sequence, Payloads: payloads}
	keys, err := r.load(t)
	if err != nil {
		return err
	}
	out, err := r.sign(t, s, r.outName(flags.Args()), keys)
	if err != nil {
		return err
	}
	if r.metadata {
		fmt.Fprintf(t.out, "%s\n", trust.Metadata(out.document, out.signatures))
		return nil
	}
	out.tell(t)
	for _, f := range files {
		fmt.Fprintf(t.out, "%s: size %d, hash %s (SHA-1, for Nebraska), SHA-256 %s\n", f.name, f.size, f.sha1, f.sha256)
	}
	return nil
}

func (r *releaseFlags) check(files int) error {
	for _, required := range []struct{ flag, value string }{{"app", r.app}, {"arch", r.arch}, {"version", r.version}} {
		if required.value == "" {
			return fmt.Errorf("%w: -%s is missing", errUsage, required.flag)
		}
	}
	if len(r.channels) == 0 {
		return fmt.Errorf("%w: -channel is missing", errUsage)
	}
	if files == 0 && r.image == "" {
		return fmt.Errorf("%w: name the release's files, or its -image", errUsage)
	}
	return nil
}

// outName is what comes before the suffix.
func (r *releaseFlags) outName(files []string) string {
	switch {
	case r.out != "":
		return r.out
	case len(files) > 0:
		return files[0]
	default:
		repository, _, _ := strings.Cut(r.image, "@")
		return path.Base(repository) + "-" + r.version
	}
}

// sign completes a statement, signs it, has it judged as a client would, and writes it.
func (r *releaseFlags) sign(t *tool, s trust.Statement, name string, keys []minisign.PrivateKey) (*output, error) {
	before, err := statementsBefore(name+trust.ReleaseSuffix, r.previous, s)
	if err != nil {
		return nil, err
	}
	if s.Sequence, err = r.next(before); err != nil {
		return nil, err
	}
	if s.Issued, s.Expires, err = r.times(t); err != nil {
		return nil, err
	}
	if s.Keys, err = readPublic(r.trusted); err != nil {
		return nil, err
	}
	document, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	out := &output{
		file: name + trust.ReleaseSuffix, signature: name + trust.ReleaseSignatureSuffix,
		document: document, signatures: trust.Sign(document, keys...), keys: keys, what: describe(s),
	}
	for _, key := range publicTexts(keys) {
		if err := judgeStatement([]string{key}, out.signed(), s, t.now); err != nil {
			return nil, err
		}
	}
	return out, out.write()
}

// earlier is a document that was signed before.
type earlier struct {
	file     string
	sequence uint64
}

// next returns the document's sequence, which is above all earlier ones.
func (d *documentFlags) next(before []earlier) (uint64, error) {
	var last earlier
	for _, e := range before {
		if e.sequence >= last.sequence {
			last = e
		}
	}
	switch {
	case d.sequence > last.sequence:
		return d.sequence, nil
	case d.sequence > 0:
		return 0, fmt.Errorf("-sequence %d is not above %d, which %s has: clients would refuse it as a rollback; take %d, or more",
			d.sequence, last.sequence, last.file, last.sequence+1)
	case d.previous != "":
		return last.sequence + 1, nil
	default:
		return 0, fmt.Errorf("%w: give -sequence 1 for the first one, and then -previous FILE, or a higher -sequence", errUsage)
	}
}

// statementsBefore finds those for the same app, channel and architecture: the one named, and those in the folder that is written to.
func statementsBefore(target, previous string, s trust.Statement) ([]earlier, error) {
	var found []earlier
	if previous != "" {
		p, err := readStatement(previous)
		if err != nil {
			return nil, err
		}
		if !related(p, s) {
			return nil, fmt.Errorf("%w: -previous %s is about %s, and this release is %s", errUsage, previous, describe(p), describe(s))
		}
		found = append(found, earlier{previous, p.Sequence})
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(target), "*"+trust.ReleaseSuffix))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := readStatement(name)
		switch {
		case err != nil && filepath.Clean(name) == filepath.Clean(target):
			return nil, fmt.Errorf("%w; it is not overwritten", err)
		case err == nil && related(p, s):
			found = append(found, earlier{name, p.Sequence})
		case err == nil && filepath.Clean(name) == filepath.Clean(target):
			return nil, fmt.Errorf("%s is about %s, and is not overwritten: choose another name with -out", name, describe(p))
		}
	}
	return found, nil
}

// related reports whether a client could see both.
func related(a, b trust.Statement) bool {
	if !strings.EqualFold(a.App, b.App) || a.Arch != b.Arch && a.Arch != trust.AnyArch && b.Arch != trust.AnyArch {
		return false
	}
	return slices.ContainsFunc(a.Channels, func(channel string) bool { return slices.Contains(b.Channels, channel) })
}

func readStatement(name string) (trust.Statement, error) {
	document, err := read(name, trust.MaxDocument)
	if err != nil {
		return trust.Statement{}, err
	}
	s, err := trust.ParseStatement(document)
	if err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}
