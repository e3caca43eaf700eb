package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

// rotate signs a document again with old and new keys, and lists the new ones in it.
func rotate(t *tool, flags *flag.FlagSet, args []string) error {
	var secrets secretFlags
	var d documentFlags
	secrets.declare(flags)
	d.declare(flags, 0)
	if err := parse(flags, args); err != nil {
		return err
	}
	switch {
	case flags.NArg() != 1:
		return fmt.Errorf("%w: name one statement (NAME%s), or one index", errUsage, trust.ReleaseSuffix)
	case len(d.trusted) == 0:
		return fmt.Errorf("%w: name the keys that clients are to trust from now on with -trust: all of them", errUsage)
	}
	name := flags.Arg(0)
	if d.previous == "" {
		d.previous = name // so that the sequence follows from it
	}
	keys, err := secrets.load(t)
	if err != nil {
		return err
	}
	if err := mayRotate(name, keys, d.trusted); err != nil {
		return err
	}
	var out *output
	if isStatement(name) {
		out, err = rotateStatement(t, name, releaseFlags{documentFlags: d}, keys)
	} else {
		out, err = rotateIndex(t, name, indexFlags{documentFlags: d, out: name}, keys)
	}
	if err != nil {
		return err
	}
	out.tell(t)
	fmt.Fprintln(t.out, "go on signing with the old key and the new one until no client trusts the old one alone")
	return nil
}

func isStatement(name string) bool { return strings.HasSuffix(name, trust.ReleaseSuffix) }

func rotateStatement(t *tool, name string, r releaseFlags, keys []minisign.PrivateKey) (*output, error) {
	s, err := readStatement(name)
	if err != nil {
		return nil, err
	}
	r.keepDays(s.Issued, s.Expires)
	return r.sign(t, s, strings.TrimSuffix(name, trust.ReleaseSuffix), keys)
}

func rotateIndex(t *tool, name string, x indexFlags, keys []minisign.PrivateKey) (*output, error) {
	document, err := readIndex(name)
	if err != nil {
		return nil, err
	}
	x.keepDays(document.Issued, document.Expires)
	return x.sign(t, document, keys)
}

// keepDays gives a document the time that the one before had.
func (d *documentFlags) keepDays(issued, expires time.Time) {
	if d.days == 0 {
		d.days = max(1, int(expires.Sub(issued)/(24*time.Hour)))
	}
}

// mayRotate refuses what clients would refuse: new keys that do not sign, and a document that none of the keys has signed so far.
func mayRotate(name string, keys []minisign.PrivateKey, trusted []string) error {
	fresh, err := readPublic(trusted)
	if err != nil {
		return err
	}
	signers := publicTexts(keys)
	for _, key := range fresh {
		if !slices.Contains(signers, key) {
			return fmt.Errorf("%w: the new key %s must sign as well: name its secret key with -key", errUsage, key)
		}
	}
	signed, err := readSigned(name)
	if err != nil {
		return err
	}
	if isStatement(name) {
		s, err := readStatement(name)
		if err == nil {
			err = judgeStatement(signers, signed, s, s.Issued)
		}
		return notOld(err)
	}
	x, err := readIndex(name)
	if err != nil {
		return err
	}
	verifier, err := trust.NewStatements(signers)
	if err != nil {
		return err
	}
	_, err = judgeIndex(verifier, signed, x.Heads[0], x.Issued)
	return notOld(err)
}

func notOld(err error) error {
	if err != nil {
		return fmt.Errorf("%w; name a key that clients trust so far with -key, beside the new one", err)
	}
	return nil
}
