package trust_test

import (
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

var update = flag.Bool("update", false, "write the test vectors in testdata anew; docs/trust.md shows them")

// vectors are the files in testdata/vectors: keys "a" (the old one) and "b" (the new one), a release, a rotation from a to b, a release of an
// image signed by b, an index, and what a thief of a signed under the highest sequence of all.
func vectors(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"a", "b"} {
		secret, err := key(name).MarshalText()
		must(t, err)
		public, err := key(name).Public().(minisign.PublicKey).MarshalText()
		must(t, err)
		files[name+".key"], files[name+".pub"] = string(secret)+"\n", string(public)+"\n"
	}
	add := func(name string, doc trust.Signed) {
		files[name], files[name+trust.IndexSignatureSuffix] = string(doc.Document), string(doc.Signatures)
	}
	st := release()
	st.Channels, st.Payloads = []string{"stable", "beta"}, []trust.Payload{file("update.gz", "the update\n"), file("notes.txt", "what is new\n")}
	add("update.gz"+trust.ReleaseSuffix, sign(t, st, "a"))
	st.Sequence, st.Version, st.Issued, st.Keys = 6, "2.0.1", day(2), public("b")
	add("rotation"+trust.ReleaseSuffix, sign(t, st, "a", "b"))
	st.Sequence, st.Version, st.Issued, st.Keys = 7, "2.1.0", day(3), nil
	st.Arch, st.Payloads = trust.AnyArch, []trust.Payload{image("app")}
	add("image"+trust.ReleaseSuffix, sign(t, st, "b"))
	stolen := release()
	stolen.Version, stolen.Sequence, stolen.Issued = "6.6.6", trust.MaxSequence, day(3)
	add("stolen"+trust.ReleaseSuffix, sign(t, stolen, "a"))
	x := index()
	x.Heads = []trust.Head{
		{App: app, Channel: "stable", Arch: "amd64", Version: "2.0.0", Sequence: 5},
		{App: app, Channel: "beta", Arch: trust.AnyArch, Version: "2.1.0", Sequence: 7},
	}
	add("index.json", sign(t, x, "a"))
	files["metadata.json"] = string(trust.Metadata([]byte(files["image.release.json"]), []byte(files["image.release.json.minisig"]))) + "\n"
	return files
}

// The files are what this package makes, and docs/trust.md shows them, byte for byte.
func TestVectors_files(t *testing.T) {
	doc := format(t)
	files := vectors(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join("testdata", "vectors", name)
		if *update {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(files[name]), 0o644))
		}
		want(t, name, vector(t, name), files[name])
		want(t, "docs/trust.md tells of "+name, strings.Contains(doc, "`"+name+"`"), true)
		shown := strings.Contains(doc, "\n```\n"+files[name]+"```\n") || strings.Contains(doc, "\n```json\n"+files[name]+"```\n")
		want(t, "docs/trust.md shows "+name, shown, name != "metadata.json")
	}
}

// format is the description of the format; git may have given it other line ends on Windows.
func format(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/trust.md")
	must(t, err)
	return strings.ReplaceAll(string(doc), "\r\n", "\n")
}

func vector(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	must(t, err)
	return string(b)
}

// The stories that docs/trust.md tells with them, from the files alone.
func TestVectors_story(t *testing.T) {
	c := vectorClient{t, t.TempDir(), "a"}
	metadata, ok := trust.ParseMetadata([]byte(vector(t, "metadata.json")))
	want(t, "metadata", ok, true)
	must(t, c.index())
	wantErr(t, c.verify("2.1.0", metadata, image("app")), trust.ErrSignature) // b is not trusted yet
	must(t, c.show("2.0.0", "update.gz.release.json"))
	must(t, c.show("2.0.1", "rotation.release.json"))
	must(t, c.show("2.1.0", "image.release.json"))
	must(t, c.verify("2.1.0", metadata, image("app")))
	wantErr(t, c.show("2.0.0", "update.gz.release.json"), trust.ErrSignature) // a is not trusted any more
	wantErr(t, c.show("2.0.1", "rotation.release.json"), trust.ErrRollback)
	wantErr(t, c.index(), trust.ErrSignature)
}

func TestVectors_afterATheft(t *testing.T) {
	c := vectorClient{t, t.TempDir(), "a"}
	must(t, c.show("6.6.6", "stolen.release.json"))
	wantErr(t, c.show("2.0.0", "update.gz.release.json"), trust.ErrRollback)
	wantErr(t, c.show("2.0.1", "rotation.release.json"), trust.ErrRollback)
	c.pinned = "b"
	wantErr(t, c.show("6.6.6", "stolen.release.json"), trust.ErrSignature)
	must(t, c.show("2.0.1", "rotation.release.json"))
	must(t, c.show("2.1.0", "image.release.json"))
	wantErr(t, c.show("2.0.1", "rotation.release.json"), trust.ErrRollback)
	c.pinned = "a"
	wantErr(t, c.show("2.0.0", "update.gz.release.json"), trust.ErrRollback)
}

// vectorClient is a client of the stories: on one machine, built with one key or another.
type vectorClient struct {
	t      *testing.T
	dir    string
	pinned string
}

func (c vectorClient) verifier() *trust.Statements {
	v, err := trust.NewStatements([]string{vector(c.t, c.pinned+".pub")})
	must(c.t, err)
	return v
}

func (c vectorClient) read(name string) trust.Signed {
	return trust.Signed{Where: name, Document: []byte(vector(c.t, name)), Signatures: []byte(vector(c.t, name+".minisig"))}
}

// show offers a version with a statement, and what that speaks of.
func (c vectorClient) show(version, name string) error {
	c.t.Helper()
	switch name {
	case "image.release.json":
		return c.verify(version, c.read(name), image("app"))
	case "stolen.release.json":
		return c.verify(version, c.read(name), trust.Payload{Name: "update.gz"})
	default:
		return c.verify(version, c.read(name), trust.Payload{Name: "update.gz"}, trust.Payload{Name: "notes.txt"})
	}
}

func (c vectorClient) verify(version string, doc trust.Signed, payloads ...trust.Payload) error {
	c.t.Helper()
	_, err := c.verifier().Verify(c.t.Context(), trust.Claim{
		AppID: app, Channel: "stable", Arch: "amd64", Version: version, Payloads: payloads, Now: day(4), Dir: c.dir, Signed: at(doc),
	})
	return err
}

func (c vectorClient) index() error {
	c.t.Helper()
	_, err := c.verifier().Index(claim(c.dir), c.read("index.json"))
	return err
}

// Documents that every implementation must refuse, whoever signed them. Each differs from update.gz.release.json in one place.
func TestVectors_refused(t *testing.T) {
	good := vector(t, "update.gz.release.json")
	doc := format(t)
	refused := map[string][2]string{
		"field-twice":     {`"arch": "amd64"`, `"arch": "arm64", "arch": "amd64"`},
		"field-case":      {`"arch"`, `"Arch"`},
		"field-unknown":   {`"arch"`, `"threshold": 2, "arch"`},
		"null":            {`"beta"`, `null`},
		"sequence-text":   {`"sequence": 5`, `"sequence": "5"`},
		"sequence-float":  {`"sequence": 5`, `"sequence": 5.0`},
		"sequence-large":  {`"sequence": 5`, `"sequence": 9007199254740992`},
		"time-offset":     {`T12:00:00Z"`, `T12:00:00+00:00"`},
		"half-a-letter":   {`"beta"`, `"\ud800"`},
		"channel-twice":   {`"beta"`, `"stable"`},
		"file-twice":      {`"notes.txt"`, `"update.gz"`},
		"trailing":        {"}\n", "}{}\n"},
		"other-type":      {`omahaclient-release`, `omahaclient-index`},
		"later-format":    {`"format": 1`, `"format": 2`},
		"expires-at-once": {`2026-12-01`, `2026-11-01`},
	}
	for name, change := range refused {
		content := strings.Replace(good, change[0], change[1], 1)
		if i := strings.LastIndex(good, change[0]); name == "trailing" {
			content = good[:i] + change[1]
		}
		path := filepath.Join("testdata", "refused", name+".json")
		if *update {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(content), 0o644))
		}
		b, err := os.ReadFile(path)
		must(t, err)
		want(t, name, string(b), content)
		if _, err := trust.ParseStatement(b); !errors.Is(err, trust.ErrMalformed) || content == good {
			t.Errorf("%s: %v", name, err)
		}
		want(t, "docs/trust.md tells of "+name, strings.Contains(doc, "`"+name+"`"), true)
	}
}
