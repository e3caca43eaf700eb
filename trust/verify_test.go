package trust_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/trust"
)

var errDown = errors.New("connection refused")

func TestVerify_release(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "where", "missing")
	doc := sign(t, release(), "a")
	got, err := verifier(t, "a").Verify(t.Context(), claim(dir, doc))
	must(t, err)
	want(t, "version", got.Version, "2.0.0")
	want(t, "sequence", got.Sequence, 5)
	want(t, "issued", got.Issued, day(0))
	want(t, "expires", got.Expires, day(30))
	want(t, "where", got.Where, doc.Where)
	want(t, "payloads", len(got.Payloads), 1)
	want(t, "payload", got.Payloads[0], file("update.gz", "new"))
}

// What a statement is bound to.
func TestVerify_binding(t *testing.T) {
	for _, tc := range []struct {
		name  string
		doc   func(*trust.Statement)
		claim func(*trust.Claim)
		want  error
	}{
		{"as released", nil, nil, nil},
		{"ids differ in case only", func(s *trust.Statement) { s.App = strings.ToLower(app) }, nil, nil},
		{"another app", func(s *trust.Statement) { s.App = "other" }, nil, trust.ErrMismatch},
		{"one of its channels", func(s *trust.Statement) { s.Channels = []string{"beta", "stable"} }, nil, nil},
		{"another channel", func(s *trust.Statement) { s.Channels = []string{"beta"} }, nil, trust.ErrMismatch},
		{"channels differ in case", func(s *trust.Statement) { s.Channels = []string{"Stable"} }, nil, trust.ErrMismatch},
		{"the app follows no channel", nil, func(c *trust.Claim) { c.Channel = "" }, trust.ErrMismatch},
		{"no channel, and listed", func(s *trust.Statement) { s.Channels = []string{""} }, func(c *trust.Claim) { c.Channel = "" }, nil},
		{"another architecture", func(s *trust.Statement) { s.Arch = "arm64" }, nil, trust.ErrMismatch},
		{"every architecture", func(s *trust.Statement) { s.Arch = trust.AnyArch }, nil, nil},
		{"another version", func(s *trust.Statement) { s.Version = "1.0.0" }, nil, trust.ErrMismatch},
		{"a v before the version", func(s *trust.Statement) { s.Version = "v2.0.0" }, nil, trust.ErrMismatch},
		{"expired", func(s *trust.Statement) { s.Expires = day(1) }, nil, trust.ErrExpired},
		{"in its last second", nil, func(c *trust.Claim) { c.Now = day(30).Add(-1) }, nil},
		{"issued in the future", func(s *trust.Statement) { s.Issued = day(20) }, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := release()
			if tc.doc != nil {
				tc.doc(&s)
			}
			c := claim(t.TempDir(), sign(t, s, "a"))
			if tc.claim != nil {
				tc.claim(&c)
			}
			_, err := verifier(t, "b", "a").Verify(t.Context(), c)
			wantErr(t, err, tc.want)
		})
	}
}

// Nothing but a good signature of a trusted key counts.
func TestVerify_signatures(t *testing.T) {
	good := sign(t, release(), "a")
	both := sign(t, release(), "x", "a")
	for _, tc := range []struct {
		name string
		doc  trust.Signed
		want error
	}{
		{"trusted", good, nil},
		{"trusted among others", both, nil},
		{"nobody's", with(good, func(s *trust.Signed) { s.Signatures = nil }), trust.ErrSignature},
		{"another key's", sign(t, release(), "x"), trust.ErrSignature},
		{"of another document", with(good, func(s *trust.Signed) { s.Document = append(slices.Clip(s.Document), '\n') }), trust.ErrSignature},
		{"junk for signatures", with(good, func(s *trust.Signed) { s.Signatures = []byte("junk") }), trust.ErrMalformed},
		{"a signed payload, not a statement", signBytes([]byte("\x7fELF"), "a"), trust.ErrMalformed},
		{"an index for a statement", sign(t, index(), "a"), trust.ErrMalformed},
		{"too large", with(good, func(s *trust.Signed) { s.Document = make([]byte, trust.MaxDocument+1) }), trust.ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := verifier(t, "a").Verify(t.Context(), claim(t.TempDir(), tc.doc))
			wantErr(t, err, tc.want)
		})
	}
}

// The first place with a good statement decides; where there is none, the error that says most.
func TestVerify_places(t *testing.T) {
	good, forged := sign(t, release(), "a"), sign(t, release(), "x")
	expired := sign(t, with(release(), func(s *trust.Statement) { s.Expires = day(1) }), "a")
	other := sign(t, with(release(), func(s *trust.Statement) { s.Arch = "arm64" }), "a")
	refused := fmt.Errorf("%w: it is larger than 64 KiB", trust.ErrMalformed) // by who fetched it
	for _, tc := range []struct {
		name   string
		places []any
		want   error
	}{
		{"nowhere", nil, trust.ErrNoStatement},
		{"behind what does not count", []any{errDown, forged, refused, expired, other, good}, nil},
		{"unreachable", []any{errDown}, errDown},
		{"unreachable and forged", []any{errDown, forged}, errDown},
		{"forged and unreachable", []any{forged, refused, errDown}, errDown},
		{"unreachable, and too large", []any{errDown, refused}, errDown},
		{"unreachable, and signed but refused", []any{errDown, expired}, trust.ErrExpired},
		{"forged", []any{forged}, trust.ErrSignature},
		{"too large", []any{refused}, trust.ErrMalformed},
		{"for others, and expired", []any{other, expired, forged}, trust.ErrExpired},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := verifier(t, "a").Verify(t.Context(), claim(t.TempDir(), tc.places...))
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			want(t, "final", errors.Is(err, trust.ErrUntrusted), tc.want != nil && !errors.Is(tc.want, errDown))
		})
	}
}

func TestVerify_boundedPlaces(t *testing.T) {
	asked := 0
	c := claim(t.TempDir())
	forged := sign(t, release(), "x")
	c.Signed = func(context.Context) iter.Seq2[trust.Signed, error] {
		return func(yield func(trust.Signed, error) bool) {
			for yield(forged, nil) {
				asked++
			}
		}
	}
	_, err := verifier(t, "a").Verify(t.Context(), c)
	wantErr(t, err, trust.ErrSignature)
	if asked > 100 {
		t.Errorf("%d places were looked at", asked)
	}
}

func TestVerify_canceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, place := range []any{ctx.Err(), sign(t, release(), "x"), sign(t, with(release(), func(s *trust.Statement) { s.Expires = day(1) }), "a")} {
		_, err := verifier(t, "a").Verify(ctx, claim(t.TempDir(), place))
		if !errors.Is(err, context.Canceled) || errors.Is(err, trust.ErrUntrusted) {
			t.Errorf("error %v", err)
		}
	}
}

// From a statement on, no lower sequence is taken, by a later process too; nor another statement of that sequence.
func TestVerify_rollback(t *testing.T) {
	doc := func(n uint64, version string) trust.Signed {
		return sign(t, with(release(), func(s *trust.Statement) { s.Sequence, s.Version = n, version }), "a")
	}
	dir := t.TempDir()
	for _, tc := range []struct {
		name    string
		doc     trust.Signed
		version string
		want    error
	}{
		{"first", doc(5, "2.0.0"), "2.0.0", nil},
		{"again", doc(5, "2.0.0"), "2.0.0", nil},
		{"lower", doc(4, "1.9.0"), "1.9.0", trust.ErrRollback},
		{"lower, called newer", doc(4, "9.0.0"), "9.0.0", trust.ErrRollback},
		{"same sequence, other release", doc(5, "2.0.1"), "2.0.1", trust.ErrMismatch},
		{"higher", doc(7, "3.0.0"), "3.0.0", nil},
		{"between", doc(6, "2.5.0"), "2.5.0", trust.ErrRollback},
		{"a former version, released anew", doc(8, "1.9.0"), "1.9.0", nil},
	} {
		c := claim(dir, tc.doc)
		c.Version = tc.version
		_, err := verifier(t, "a").Verify(t.Context(), c)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// numbered gives each sequence a version of its own, which what is remembered does not speak of.
func numbered(s trust.Statement) trust.Statement {
	s.Version = fmt.Sprintf("2.0.%d", s.Sequence)
	return s
}

// Of what is signed, the error is returned that came nearest to trust, in whatever order the places are.
func TestVerify_bestError(t *testing.T) {
	dir := t.TempDir()
	_, err := verifier(t, "a").Verify(t.Context(), claim(dir, sign(t, release(), "a")))
	must(t, err)
	old := sign(t, with(release(), func(s *trust.Statement) { s.Sequence, s.Version = 4, "1.0.0" }), "a")
	other := sign(t, with(release(), func(s *trust.Statement) { s.Sequence, s.Version, s.Arch = 6, "1.0.0", "arm64" }), "a")
	for _, places := range [][]any{{old, other}, {other, old}} {
		c := claim(dir, places...)
		c.AppID, c.Version = app, "1.0.0" // an id of another case is the same app's
		_, err := verifier(t, "a").Verify(t.Context(), c)
		wantErr(t, err, trust.ErrRollback)
	}
}

// Channels have sequences of their own; a statement counts for each that it lists, and AnyArch for each architecture.
func TestVerify_lines(t *testing.T) {
	dir := t.TempDir()
	try := func(name, channel string, change func(*trust.Statement), kind error) {
		t.Helper()
		doc := numbered(with(release(), change))
		c := claim(dir, sign(t, doc, "a"))
		c.Channel, c.Version = channel, doc.Version
		if _, err := verifier(t, "a").Verify(t.Context(), c); !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %v", name, err, kind)
		}
	}
	try("stable and beta", "stable", func(s *trust.Statement) { s.Channels, s.Arch = []string{"stable", "beta"}, trust.AnyArch }, nil)
	try("beta, before that", "beta", func(s *trust.Statement) { s.Channels, s.Sequence = []string{"beta"}, 4 }, trust.ErrRollback)
	try("beta, after it", "beta", func(s *trust.Statement) { s.Channels, s.Sequence = []string{"beta"}, 100 }, nil)
	try("stable, after it", "stable", func(s *trust.Statement) { s.Sequence = 6 }, nil)
	try("alpha", "alpha", func(s *trust.Statement) { s.Channels, s.Sequence = []string{"alpha"}, 1 }, nil)
}

func TestVerify_minimum(t *testing.T) {
	for minimum, kind := range map[uint64]error{0: nil, 5: nil, 6: trust.ErrRollback} {
		s, err := trust.NewStatements(public("a"), trust.WithMinimumSequence(minimum))
		must(t, err)
		_, err = s.Verify(t.Context(), claim(t.TempDir(), sign(t, release(), "a")))
		wantErr(t, err, kind)
	}
}

// The machine's clock may be behind: what the publisher issued proves what is past. A wrong year of the publisher's moves it by a day at most.
func TestVerify_clock(t *testing.T) {
	try := func(dir string, change func(*trust.Statement), kind error) {
		t.Helper()
		doc := numbered(with(release(), change))
		c := claim(dir, sign(t, doc, "a"))
		c.Now, c.Version = day(-1), doc.Version
		_, err := verifier(t, "a").Verify(t.Context(), c)
		wantErr(t, err, kind)
	}
	dir := t.TempDir()
	try(dir, func(*trust.Statement) {}, nil)
	try(dir, func(s *trust.Statement) { s.Sequence, s.Issued, s.Expires = 6, day(-5), day(0) }, trust.ErrExpired)
	dir = t.TempDir()
	try(dir, func(s *trust.Statement) { s.Issued, s.Expires = day(4000), day(5000) }, nil)
	try(dir, func(s *trust.Statement) { s.Sequence, s.Expires = 6, day(0).Add(1e9) }, nil)
	try(dir, func(s *trust.Statement) { s.Sequence, s.Issued, s.Expires = 7, day(-3), day(0) }, trust.ErrExpired)
}

// A release that is offered again needs no network, as long as it is the very same.
func TestVerify_remembered(t *testing.T) {
	dir := t.TempDir()
	_, err := verifier(t, "a").Verify(t.Context(), claim(dir, sign(t, release(), "a")))
	must(t, err)
	c := claim(dir)
	c.Signed = func(context.Context) iter.Seq2[trust.Signed, error] {
		t.Error("the network was asked")
		return at()(t.Context())
	}
	got, err := verifier(t, "a").Verify(t.Context(), c)
	must(t, err)
	want(t, "payload", got.Payloads[0], file("update.gz", "new"))

	for name, tc := range map[string]struct {
		change func(*trust.Claim)
		want   error
	}{
		"other bytes":   {func(c *trust.Claim) { c.Payloads[0].Digest = sum("evil") }, trust.ErrMismatch},
		"expired":       {func(c *trust.Claim) { c.Now = day(31) }, trust.ErrExpired},
		"other version": {func(c *trust.Claim) { c.Version = "2.0.1" }, trust.ErrNoStatement},
		"unreachable":   {func(c *trust.Claim) { c.Now, c.Signed = day(31), at(errDown) }, errDown},
	} {
		c := claim(dir)
		tc.change(&c)
		if _, err := verifier(t, "a").Verify(t.Context(), c); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	c = claim(dir, sign(t, with(release(), func(s *trust.Statement) { s.Sequence, s.Version = 6, "3.0.0" }), "a"))
	c.Version = "3.0.0"
	for range 2 { // the latest is what is remembered
		_, err := verifier(t, "a").Verify(t.Context(), c)
		must(t, err)
		c.Signed = at()
	}
	_, err = verifier(t, "a").Verify(t.Context(), claim(dir))
	wantErr(t, err, trust.ErrNoStatement)
	c = claim(dir)
	c.Version = "3.0.0"
	_, err = verifier(t, "b").Verify(t.Context(), c)
	wantErr(t, err, trust.ErrSignature) // a later build trusts other keys
}

// Calls at once for one app do no harm.
func TestVerify_concurrently(t *testing.T) {
	v, dir := verifier(t, "a"), t.TempDir()
	done := make(chan error)
	for n := range uint64(8) {
		go func() {
			s := with(release(), func(s *trust.Statement) { s.Sequence += n })
			_, err := v.Verify(t.Context(), claim(dir, sign(t, s, "a")))
			_, err2 := v.Index(claim(dir), sign(t, index(), "a"))
			done <- errors.Join(err, err2)
		}()
	}
	for range 8 {
		if err := <-done; err != nil && !errors.Is(err, trust.ErrRollback) {
			t.Error(err)
		}
	}
	_, err := v.Verify(t.Context(), claim(dir, sign(t, with(release(), func(s *trust.Statement) { s.Sequence = 11 }), "a")))
	// 12 was verified by one of them, and is remembered: it is what speaks of this version
	must(t, err)
}
