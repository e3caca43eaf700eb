package trust_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

func TestNewStatements_keys(t *testing.T) {
	line := public("a")[0]
	file, err := key("a").Public().(minisign.PublicKey).MarshalText()
	must(t, err)
	secret, err := key("a").MarshalText()
	must(t, err)
	_, secretLine, _ := strings.Cut(string(secret), "\n")
	for _, tc := range []struct {
		name string
		keys []string
		ok   bool
	}{
		{"a line", []string{line}, true},
		{"with a line's end", []string{line + "\n"}, true},
		{"the file", []string{string(file)}, true},
		{"the file from Windows", []string{strings.ReplaceAll(string(file), "\n", "\r\n") + "\r\n"}, true},
		{"the file, its comment removed", []string{"untrusted comment:\n" + line}, true},
		{"two", public("a", "b"), true},
		{"none", nil, false},
		{"an empty one", []string{""}, false},
		{"twice", public("a", "b", "a"), false},
		{"twice, as line and file", []string{line, string(file)}, false},
		{"cut off", []string{line[:40]}, false},
		{"two in one", []string{line + "\n" + public("b")[0]}, false},
		{"a comment alone", []string{"untrusted comment: minisign public key"}, false},
		{"a certificate", []string{"-----BEGIN PUBLIC KEY-----"}, false},
		{"huge", []string{strings.Repeat("R", 1<<20)}, false},
		{"a secret key's file", []string{string(secret)}, false},
		{"a secret key's line", []string{secretLine}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := trust.NewStatements(tc.keys)
			want(t, "taken", err == nil, tc.ok)
			if strings.HasPrefix(tc.name, "a secret") && (!strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), secretLine[:20])) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := trust.NewStatements([]string{line}, trust.WithMinimumSequence(trust.MaxSequence+1)); err == nil {
		t.Error("a minimum that no statement reaches was taken")
	}
	if _, err := trust.NewStatements([]string{line}, trust.WithLogger(nil)); err != nil {
		t.Error(err)
	}
}

// Files of signatures as people and programs make them.
func TestVerify_signatureFiles(t *testing.T) {
	document, err := release().Marshal()
	must(t, err)
	good := string(trust.Sign(document, key("a")))
	legacy := string(minisign.Sign(key("a"), document))
	other := string(trust.Sign(document, key("x")))
	lines := strings.Split(good, "\n")
	for _, tc := range []struct {
		name, file string
		want       error
	}{
		{"prehashed", good, nil},
		{"legacy", legacy, nil},
		{"no line's end", strings.TrimSuffix(good, "\n"), nil},
		{"from Windows", strings.ReplaceAll(good, "\n", "\r\n"), nil},
		{"empty lines around", "\n\n" + good + "\r\n\n", nil},
		{"behind another's", other + "\n" + good, nil},
		{"behind a broken one", strings.Replace(other, "RU", "!!", 1) + good, nil},
		{"of another comment", strings.Replace(good, "untrusted comment: ", "untrusted comment: untrusted comment: trusted comment: ", 1), nil},
		{"without a comment", strings.Replace(good, lines[0], "untrusted comment:", 1), nil},
		{"eight", strings.Repeat(other, 7) + good, nil},
		{"nine", strings.Repeat(other, 8) + good, trust.ErrMalformed},
		{"trusted comment changed", strings.Replace(good, "version=2.0.0", "version=3.0.0", 1), trust.ErrSignature},
		{"key id changed", lines[0] + "\n" + strings.Split(other, "\n")[1] + "\n" + lines[2] + "\n" + lines[3] + "\n", trust.ErrSignature},
		{"three lines", strings.Join(lines[:3], "\n"), trust.ErrMalformed},
		{"junk before", "x\n" + good, trust.ErrMalformed},
		{"junk behind", good + "x", trust.ErrMalformed},
		{"lines swapped", strings.Join([]string{lines[2], lines[1], lines[0], lines[3]}, "\n"), trust.ErrMalformed},
		{"empty lines alone", "\n\n", trust.ErrMalformed},
		{"too large", good + strings.Repeat("\n", trust.MaxDocument), trust.ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc := trust.Signed{Document: document, Signatures: []byte(tc.file)}
			_, err := verifier(t, "a").Verify(t.Context(), claim(t.TempDir(), doc))
			wantErr(t, err, tc.want)
		})
	}
}

// What minisign itself made of update.gz.release.json: minisign -S -W -s a.key -m update.gz.release.json -t hello
func TestVerify_minisign(t *testing.T) {
	signatures, err := os.ReadFile("testdata/minisign-0.11.minisig")
	must(t, err)
	document := []byte(vector(t, "update.gz.release.json"))
	for names, kind := range map[string]error{"a": nil, "b": trust.ErrSignature} {
		c := claim(t.TempDir(), trust.Signed{Document: document, Signatures: signatures})
		c.Payloads = []trust.Payload{{Name: "update.gz"}, {Name: "notes.txt"}}
		_, err := verifier(t, names).Verify(t.Context(), c)
		wantErr(t, err, kind)
	}
}

func TestSign_comment(t *testing.T) {
	for comment, doc := range map[string]trust.Signed{
		"trusted comment: omahaclient-release app=" + app + " version=2.0.0 sequence=5": sign(t, release(), "a", "b"),
		"trusted comment: omahaclient-index sequence=40":                                sign(t, index(), "a", "b"),
		"trusted comment: other":    signBytes([]byte(`{"type":"other"}`), "a", "b"),
		"trusted comment: 16 bytes": signBytes([]byte(`{"type":"a\nb"}`+" "), "a", "b"),
	} {
		want(t, comment, bytes.Count(doc.Signatures, []byte(comment+"\n")), 2)
		want(t, "lines", bytes.Count(doc.Signatures, []byte("\n")), 8)
		want(t, "again", bytes.Equal(doc.Signatures, trust.Sign(doc.Document, key("a"), key("b"))), true)
	}
	want(t, "signatures of nobody", len(trust.Sign([]byte("x"))), 0)
}
