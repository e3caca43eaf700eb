package trust_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"go.uber.org/goleak"

	"github.com/nebraska/omahaclient/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const app = "{E96281A6-D1AF-4BDE-9A0A-97B76E56DC57}"

// day is a time of the tests' calendar.
func day(n int) time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, n) }

// key is a pair of keys that a name stands for.
func key(name string) minisign.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	_, private, err := minisign.GenerateKey(strings.NewReader(string(seed[:])))
	if err != nil {
		panic(err)
	}
	return private
}

func public(names ...string) []string {
	var keys []string
	for _, name := range names {
		keys = append(keys, key(name).Public().(minisign.PublicKey).String())
	}
	return keys
}

func sum(content string) string {
	s := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(s[:])
}

func file(name, content string) trust.Payload {
	return trust.Payload{Name: name, Size: int64(len(content)), Digest: sum(content)}
}

func image(content string) trust.Payload {
	return trust.Payload{Name: "registry.example/" + content, Image: true, Digest: sum(content)}
}

// release is a statement that claim() asks for; change it to make others.
func release() trust.Statement {
	return trust.Statement{
		App: app, Channels: []string{"stable"}, Arch: "amd64", Version: "2.0.0", Sequence: 5,
		Issued: day(0), Expires: day(30), Payloads: []trust.Payload{file("update.gz", "new")},
	}
}

// claim is an offer of release(): the server says no more than it must.
func claim(dir string, places ...any) trust.Claim {
	return trust.Claim{
		AppID: strings.ToLower(app), Channel: "stable", Arch: "amd64", Version: "2.0.0", Now: day(1), Dir: dir,
		Payloads: []trust.Payload{{Name: "update.gz"}}, Signed: at(places...),
	}
}

// at yields what is in places: documents, or errors.
func at(places ...any) func(context.Context) iter.Seq2[trust.Signed, error] {
	return func(context.Context) iter.Seq2[trust.Signed, error] {
		return func(yield func(trust.Signed, error) bool) {
			for _, p := range places {
				s, _ := p.(trust.Signed)
				err, _ := p.(error)
				if !yield(s, err) {
					return
				}
			}
		}
	}
}

// sign makes a document of a statement or an index, signed by keys of these names.
func sign(tb testing.TB, doc interface{ Marshal() ([]byte, error) }, names ...string) trust.Signed {
	tb.Helper()
	b, err := doc.Marshal()
	must(tb, err)
	return signBytes(b, names...)
}

func signBytes(b []byte, names ...string) trust.Signed {
	var keys []minisign.PrivateKey
	for _, name := range names {
		keys = append(keys, key(name))
	}
	return trust.Signed{Where: "https://updates.example/update.gz.release.json", Document: b, Signatures: trust.Sign(b, keys...)}
}

// verifier trusts keys of these names.
func verifier(tb testing.TB, names ...string) *trust.Statements {
	tb.Helper()
	s, err := trust.NewStatements(public(names...))
	must(tb, err)
	return s
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func want[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: %v, want %v", what, got, want)
	}
}

// wantErr wants a refusal of this kind; nil wants none.
func wantErr(tb testing.TB, err, kind error) {
	tb.Helper()
	if !errors.Is(err, kind) || kind != nil && !errors.Is(err, trust.ErrUntrusted) {
		tb.Errorf("error %v, want %v", err, kind)
	}
}

// with changes a value in place and returns it.
func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}
