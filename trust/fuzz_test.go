package trust_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

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
	v := verifier(f, "a")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, signatures []byte) {
		if bytes.Contains(signatures, bytes.Split(doc.Signatures, []byte("\n"))[1]) {
			return // that is the true one
		}
		_, err := v.Verify(t.Context(), claim(dir, trust.Signed{Document: doc.Document, Signatures: signatures}))
		if !errors.Is(err, trust.ErrSignature) && !errors.Is(err, trust.ErrMalformed) {
			t.Errorf("error %v", err)
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
