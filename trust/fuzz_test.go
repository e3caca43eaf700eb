package trust_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

// What is accepted is understood in one way: written again, it says the same.
func FuzzStatement(f *testing.F) {
	for _, s := range []trust.Statement{
		release(), with(release(), func(s *trust.Statement) {
			s.Keys, s.Payloads = public("a", "b"), []trust.Payload{image("i"), file("f", "f")}
		}),
	} {
		f.Add(sign(f, s).Document)
	}
	f.Add(sign(f, index()).Document)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := trust.ParseStatement(b)
		if err != nil {
			wantErr(t, err, trust.ErrMalformed)
			return
		}
		again, err := s.Marshal()
		if err != nil && len(b) > trust.MaxDocument/4 {
			return // its white space was all that it had room for
		}
		must(t, err)
		s2, err := trust.ParseStatement(again)
		must(t, err)
		want(t, "the same", reflect.DeepEqual(s, s2), true)
		want(t, "an index too", isIndex(b), false)
	})
}

func isIndex(b []byte) bool {
	_, err := trust.ParseIndex(b)
	return err == nil
}

func FuzzIndex(f *testing.F) {
	f.Add(sign(f, index()).Document)
	f.Add(sign(f, with(index(), func(x *trust.Index) { x.Keys = public("a") })).Document)
	f.Add(sign(f, release()).Document)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := trust.ParseIndex(b)
		if err != nil {
			wantErr(t, err, trust.ErrMalformed)
			return
		}
		again, err := x.Marshal()
		if err != nil && len(b) > trust.MaxDocument/4 {
			return // its white space was all that it had room for
		}
		must(t, err)
		x2, err := trust.ParseIndex(again)
		must(t, err)
		want(t, "the same", reflect.DeepEqual(x, x2), true)
	})
}

// No file of signatures makes a document trusted that the key did not sign.
func FuzzSignatures(f *testing.F) {
	doc, other := sign(f, release(), "a"), sign(f, index(), "a")
	f.Add(other.Signatures)
	f.Add(sign(f, release(), "x").Signatures)
	f.Add(append(bytes.ReplaceAll(other.Signatures, []byte("\n"), []byte("\r\n")), other.Signatures...))
	f.Add([]byte("untrusted comment: \n\ntrusted comment: \n\n"))
	f.Add(bytes.Replace(doc.Signatures, []byte("=\n"), []byte("\r=\n"), 1))
	lines := bytes.Split(bytes.Clone(doc.Signatures), []byte("\n"))
	lines[1][len(lines[1])-2]++ // bits that stand for nothing
	f.Add(bytes.Join(lines, []byte("\n")))
	signature := loose64(bytes.Split(doc.Signatures, []byte("\n"))[1])
	v := verifier(f, "a")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, signatures []byte) {
		for line := range bytes.Lines(signatures) {
			if bytes.Equal(loose64(line), signature) {
				return // that is the true one
			}
		}
		_, err := v.Verify(t.Context(), claim(dir, trust.Signed{Document: doc.Document, Signatures: signatures}))
		if !errors.Is(err, trust.ErrSignature) && !errors.Is(err, trust.ErrMalformed) {
			t.Errorf("error %v", err)
		}
	})
}

// loose64 decodes base64 as leniently as can be: whatever is no letter of it is passed over, and bits behind the last byte are too.
func loose64(text []byte) []byte {
	letters := bytes.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '+' || r == '/') {
			return r
		}
		return -1
	}, text)
	b, _ := base64.RawStdEncoding.DecodeString(string(letters))
	return b
}

// What is taken for a statement in a package's metadata has the size of one, and says the same when it is written again.
func FuzzMetadata(f *testing.F) {
	doc := sign(f, release(), "a")
	whole := trust.Metadata(doc.Document, doc.Signatures)
	f.Add(whole)
	f.Add(append([]byte(`{"other":[{}],`), whole[1:]...))
	f.Add([]byte(`{"release":"","minisig":"eA=="}`))
	f.Add([]byte(`{"release":[1,2,255],"minisig":"eA\u003d="}`))
	f.Add([]byte("sha256:" + strings.Repeat("0", 64)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := trust.ParseMetadata(b)
		if !ok {
			want(t, "what is not taken", len(s.Where)+len(s.Document)+len(s.Signatures), 0)
			return
		}
		for _, part := range [][]byte{s.Document, s.Signatures} {
			if len(part) == 0 || len(part) > trust.MaxDocument {
				t.Errorf("%d bytes", len(part))
			}
		}
		again, ok := trust.ParseMetadata(trust.Metadata(s.Document, s.Signatures))
		want(t, "taken again", ok, true)
		want(t, "the same", reflect.DeepEqual(s, again), true)
	})
}

// A text that is taken for a trusted key stands for one key, however it is written; one that is not is never shown: it may be a secret.
func FuzzKeys(f *testing.F) {
	line := public("a")[0]
	file, err := key("a").Public().(minisign.PublicKey).MarshalText()
	must(f, err)
	secret, err := key("a").MarshalText()
	must(f, err)
	for _, text := range []string{
		line, line + "\n", string(file), strings.ReplaceAll(string(file), "\n", "\r\n"), "", line[:40], line + line, "untrusted comment: x", string(secret),
		"-----BEGIN PUBLIC KEY-----", strings.Repeat("R", 5000),
	} {
		f.Add(text)
	}
	refusal := func(text string) string {
		_, err := trust.NewStatements([]string{text})
		if err == nil {
			f.Fatalf("%q is a key", text)
		}
		return err.Error()
	}
	refusals := []string{refusal(""), refusal("junk"), refusal(string(secret))}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := trust.NewStatements([]string{text}); err != nil {
			long := len(text) > 4096 && err.Error() == refusal(strings.Repeat("x", len(text)))
			want(t, "an error that says nothing of the text", long || slices.Contains(refusals, err.Error()), true)
			return
		}
		st, err := trust.ParseStatement(sign(t, with(release(), func(s *trust.Statement) { s.Keys = []string{text} })).Document)
		must(t, err)
		plain := st.Keys[0]
		var key minisign.PublicKey
		must(t, key.UnmarshalText([]byte(plain)))
		want(t, "its line", key.String(), plain)
		for _, other := range []string{plain, "untrusted comment: another one\r\n" + plain + "\r\n"} {
			_, err := trust.NewStatements([]string{other})
			must(t, err)
			_, err = trust.NewStatements([]string{text, other})
			want(t, "taken twice", err == nil, false)
		}
	})
}

// Whatever is in the memory's file, with a right sum or a wrong one: it is read, or set aside, and updates go on.
func FuzzMemory(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, memory)
	v := verifier(f, "a")
	for _, s := range []trust.Statement{release(), with(release(), func(s *trust.Statement) { s.Sequence, s.Keys = 6, public("a") })} {
		_, err := v.Verify(f.Context(), claim(dir, sign(f, s, "a")))
		must(f, err)
		b, err := os.ReadFile(path)
		must(f, err)
		f.Add(b, false)
		_, inner, _ := bytes.Cut(b, []byte(`"memory":`))
		f.Add(inner[:len(inner)-1], true)
	}
	f.Add([]byte("null"), true)
	doc := sign(f, with(release(), func(s *trust.Statement) { s.Sequence = trust.MaxSequence }), "a")
	f.Fuzz(func(t *testing.T, b []byte, summed bool) {
		if summed {
			writeMemory(t, path, b)
		} else {
			must(t, os.WriteFile(path, b, 0o600))
		}
		if _, err := v.Verify(t.Context(), claim(dir, doc)); err != nil && !errors.Is(err, trust.ErrUntrusted) {
			t.Errorf("updates have ended: %v", err)
		}
		if _, err := v.Index(claim(dir), sign(t, index(), "a")); err != nil && !errors.Is(err, trust.ErrUntrusted) {
			t.Errorf("indexes have ended: %v", err)
		}
	})
}
