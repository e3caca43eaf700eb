package trust_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/trust"
)

// step is a statement that a client is shown, and what becomes of it. Versions follow the sequence.
type step struct {
	name     string
	pinned   string // names of the build's keys, a letter each
	sequence uint64
	issued   int
	keys     string // names of the keys that it lists
	signers  string
	want     error
}

func letters(s string) []string { return strings.Split(s, "")[:len(s)] }

func (s step) show(t *testing.T, dir string) {
	t.Helper()
	st := numbered(with(release(), func(st *trust.Statement) {
		st.Sequence, st.Issued, st.Keys = s.sequence, day(s.issued), public(letters(s.keys)...)
		st.Expires = day(max(30, s.issued+1))
	}))
	c := claim(dir, sign(t, st, letters(s.signers)...))
	c.Version = st.Version
	_, err := verifier(t, letters(s.pinned)...).Verify(t.Context(), c)
	if !errors.Is(err, s.want) {
		t.Errorf("%s: %v, want %v", s.name, err, s.want)
	}
}

// shown is the same, for later.
func (s step) shown(t *testing.T) func(dir string) {
	t.Helper()
	return func(dir string) { t.Helper(); s.show(t, dir) }
}

// Each story is told in one directory, in order, each step by a process of its own.
func TestVerify_rotation(t *testing.T) {
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"old and new key sign", []step{
			{"before", "a", 1, 0, "", "a", nil},
			{"new key alone", "a", 2, 1, "b", "b", trust.ErrSignature},
			{"old key alone", "a", 2, 1, "b", "a", trust.ErrSignature},
			{"both", "a", 2, 1, "b", "ab", nil},
			{"both again", "a", 2, 1, "b", "ab", nil},
			{"the new key", "a", 3, 2, "", "b", nil},
			{"the old key", "a", 4, 3, "", "a", trust.ErrSignature},
			{"back, without the present key", "a", 4, 3, "a", "a", trust.ErrSignature},
			{"back, with both", "a", 4, 3, "a", "ab", nil},
			{"the old key is trusted", "a", 5, 4, "", "a", nil},
			{"the new key is not", "a", 6, 5, "", "b", trust.ErrSignature},
		}},
		{"a set, each of which signs", []step{
			{"one is missing", "a", 1, 0, "bc", "ab", trust.ErrSignature},
			{"all", "a", 1, 0, "bc", "abc", nil},
			{"one of them is enough later", "a", 2, 1, "", "c", nil},
		}},
		{"a key that is no key yet cannot bring itself in", []step{
			{"stranger", "a", 1, 0, "x", "x", trust.ErrSignature},
			{"stranger with the old key's name only", "a", 1, 0, "ax", "x", trust.ErrSignature},
		}},
		{"other builds", []step{
			{"rotate", "a", 1, 0, "b", "ab", nil},
			{"a build that pins another key", "c", 2, 1, "", "b", trust.ErrSignature},
			{"its own key", "c", 2, 1, "", "c", nil},
			{"the old build, which the newer one has written after", "a", 3, 2, "", "b", nil},
			{"sequences stay", "c", 1, 2, "", "c", trust.ErrRollback},
		}},
		{"the order of pinned keys is none", []step{
			{"rotate", "ac", 1, 0, "b", "ab", nil},
			{"after", "ca", 2, 1, "", "b", nil},
			{"old", "ca", 3, 1, "", "c", trust.ErrSignature},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, s := range tc.steps {
				s.show(t, dir)
			}
		})
	}
}

// A rotation from before the last one brings no key back, whichever channel or index it comes by.
func TestVerify_rotationReplayed(t *testing.T) {
	dir := t.TempDir()
	old := index()
	old.Issued, old.Keys = day(1), public("b", "x") // x is found to be stolen later
	step{"to b and x", "a", 1, 0, "bx", "abx", nil}.show(t, dir)
	step{"x is dropped", "a", 2, 2, "b", "b", nil}.show(t, dir)
	_, err := verifier(t, "a").Index(claim(dir), sign(t, old, "b", "x"))
	must(t, err) // b vouches for it
	step{"x is not back", "a", 3, 3, "", "x", trust.ErrSignature}.show(t, dir)
	step{"b is there", "a", 3, 3, "", "b", nil}.show(t, dir)
}

// Naming the present keys once more counts: what was issued before it is an old story from then on.
func TestVerify_rotationConfirmed(t *testing.T) {
	dir := t.TempDir()
	old := index()
	old.Issued, old.Keys = day(1), public("a", "x")
	step{"a", "a", 1, 0, "a", "a", nil}.show(t, dir)
	step{"still a", "a", 2, 2, "a", "a", nil}.show(t, dir)
	_, err := verifier(t, "a").Index(claim(dir), sign(t, old, "a", "x"))
	must(t, err)
	step{"x is not in", "a", 3, 3, "", "x", trust.ErrSignature}.show(t, dir)
}

func TestIndex_rotation(t *testing.T) {
	dir := t.TempDir()
	x := index()
	x.Keys = public("b")
	_, err := verifier(t, "a").Index(claim(dir), sign(t, x, "a"))
	wantErr(t, err, trust.ErrSignature)
	_, err = verifier(t, "a").Index(claim(dir), sign(t, x, "a", "b"))
	must(t, err)
	step{"the new key", "a", 1, 0, "", "b", nil}.show(t, dir)
	step{"the old key", "a", 2, 0, "", "a", trust.ErrSignature}.show(t, dir)
}

// What is refused for another reason changes no key.
func TestVerify_rotationRefused(t *testing.T) {
	dir := t.TempDir()
	st := with(release(), func(s *trust.Statement) { s.Keys = public("b") })
	for _, change := range []func(*trust.Claim){
		func(c *trust.Claim) { c.AppID = "other" },
		func(c *trust.Claim) { c.Now = day(40) },
		func(c *trust.Claim) { c.Payloads[0].Digest = sum("evil") },
	} {
		c := claim(dir, sign(t, st, "a", "b"))
		change(&c)
		if _, err := verifier(t, "a").Verify(t.Context(), c); err == nil {
			t.Error("taken")
		}
	}
	step{"the new key", "a", 6, 0, "", "b", trust.ErrSignature}.show(t, dir)
}

// A memory that is lost starts from the pinned keys; what both signed rotates again.
func TestVerify_rotationForgotten(t *testing.T) {
	dir := t.TempDir()
	step{"rotate", "a", 1, 0, "b", "ab", nil}.show(t, dir)
	must(t, os.Remove(filepath.Join(dir, "trust.json")))
	step{"the new key", "a", 2, 1, "", "b", trust.ErrSignature}.show(t, dir)
	step{"rotate again", "a", 1, 0, "b", "ab", nil}.show(t, dir)
	step{"the new key", "a", 2, 1, "", "b", nil}.show(t, dir)
}

func TestVerify_rotationIsLogged(t *testing.T) {
	var log bytes.Buffer
	v, err := trust.NewStatements(public("a"), trust.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	must(t, err)
	dir := t.TempDir()
	for range 2 {
		_, err = v.Verify(context.Background(), claim(dir, sign(t, with(release(), func(s *trust.Statement) { s.Keys = public("b") }), "a", "b")))
		must(t, err)
	}
	want(t, "times told", strings.Count(log.String(), "app_id="), 1)
}
