package trust_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/trust"
)

// What a stolen key signed under the highest sequence of all binds as long as the key is trusted, and no longer.
func TestHistory_fastForward(t *testing.T) {
	const top = trust.MaxSequence
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"a build with another key", []step{
			{"before", "a", 5, 0, "", "a", nil},
			{"thief", "a", top, 0, "", "a", nil},
			{"the publisher", "a", 6, 1, "", "a", trust.ErrRollback},
			{"with a new key", "b", 6, 1, "", "b", nil},
			{"the thief again", "b", top, 1, "", "a", trust.ErrSignature},
			{"older", "b", 5, 1, "", "b", trust.ErrRollback},
			{"newer", "b", 7, 1, "", "b", nil},
			{"the former build", "a", 8, 1, "", "a", trust.ErrRollback},
		}},
		{"one of two keys is kept", []step{
			{"both sign", "ab", 5, 0, "", "ab", nil},
			{"the thief of a", "ab", top, 0, "", "a", nil},
			{"the publisher", "ab", 6, 0, "", "ab", trust.ErrRollback},
			{"a build without a: older", "bc", 4, 1, "", "b", trust.ErrRollback},
			{"older, with the new key's signature too", "bc", 4, 1, "", "bc", trust.ErrRollback},
			{"the next", "bc", 6, 1, "", "bc", nil},
		}},
		{"the thief changes keys too, far ahead", []step{
			{"thief", "a", top, 10_000, "ax", "ax", nil},
			{"a build with another key, which changes it", "b", 6, 1, "c", "bc", nil},
			{"the former key", "b", 7, 1, "", "b", trust.ErrSignature},
			{"the next key", "b", 7, 1, "", "c", nil},
		}},
		{"the key that is changed to binds too", []step{
			{"change", "a", 5, 0, "b", "ab", nil},
			{"the next build, older", "b", 4, 1, "", "b", trust.ErrRollback},
			{"newer", "b", 6, 1, "", "b", nil},
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

// An index of another key than the former one owes nothing to that, whichever way it came to be trusted.
func TestHistory_fastForwardIndex(t *testing.T) {
	fast := with(index(), func(x *trust.Index) { x.Sequence = trust.MaxSequence })
	for name, change := range map[string]struct {
		how  func(dir string)
		then string // the key that the program was built with
	}{
		"by a build":     {func(string) {}, "b"},
		"by a statement": {step{"change", "a", 6, 1, "b", "ab", nil}.shown(t), "a"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := verifier(t, "a").Index(claim(dir), sign(t, fast, "a"))
			must(t, err)
			_, err = verifier(t, "a").Index(claim(dir), sign(t, index(), "a"))
			wantErr(t, err, trust.ErrRollback)
			change.how(dir)
			v := verifier(t, change.then)
			_, err = v.Index(claim(dir), sign(t, index(), "b"))
			must(t, err)
			_, err = v.Index(claim(dir), sign(t, with(index(), func(x *trust.Index) { x.Sequence-- }), "b"))
			wantErr(t, err, trust.ErrRollback)
			_, err = v.Index(claim(dir), sign(t, fast, "a"))
			wantErr(t, err, trust.ErrSignature)
		})
	}
}

// An index by which keys are changed frees the statements.
func TestHistory_changedByIndex(t *testing.T) {
	dir := t.TempDir()
	step{"thief", "a", trust.MaxSequence, 0, "", "a", nil}.show(t, dir)
	_, err := verifier(t, "a").Index(claim(dir), sign(t, with(index(), func(x *trust.Index) { x.Keys = public("b") }), "a", "b"))
	must(t, err)
	step{"the next", "a", 6, 1, "", "b", nil}.show(t, dir)
}

// Memories from before signers were noted bind whoever is trusted.
func TestHistory_formerMemory(t *testing.T) {
	dir := remembered(t)
	v := verifier(t, "a")
	_, err := v.Index(claim(dir), sign(t, index(), "a"))
	must(t, err)
	path := filepath.Join(dir, memory)
	b, err := os.ReadFile(path)
	must(t, err)
	_, inner, _ := bytes.Cut(b, []byte(`"memory":`))
	inner = regexp.MustCompile(`,"by":\["[^"]*"\]`).ReplaceAll(inner[:len(inner)-1], nil)
	inner = regexp.MustCompile(`"indexes":\[(\{[^}]*\})\]`).ReplaceAll(inner, []byte(`"index":$1`))
	want(t, "is a former one", bytes.Contains(inner, []byte(`"index":{"sequence":40`)) && !bytes.Contains(inner, []byte(`"by"`)), true)
	writeMemory(t, path, inner)

	for _, key := range []string{"a", "b"} {
		step{"older", key, 4, 1, "", key, trust.ErrRollback}.show(t, dir)
		_, err := verifier(t, key).Index(claim(dir), sign(t, with(index(), func(x *trust.Index) { x.Sequence-- }), key))
		wantErr(t, err, trust.ErrRollback)
	}
	step{"newer", "b", 6, 1, "", "b", nil}.show(t, dir)
	_, err = verifier(t, "b").Index(claim(dir), sign(t, with(index(), func(x *trust.Index) { x.Sequence++ }), "b"))
	must(t, err)
	step{"as now", "a", 4, 1, "", "a", nil}.show(t, dir)
}

// What changed keys, with an issue time far ahead, is not in the way of what follows.
func TestVerify_rotationOfAWrongYear(t *testing.T) {
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"corrected", []step{
			{"a wrong year", "a", 1, 4000, "b", "ab", nil},
			{"from before", "a", 2, 0, "ab", "ab", nil},
			{"whose keys are passed over", "a", 3, 1, "", "a", trust.ErrSignature},
			{"corrected", "a", 3, 2, "c", "bc", nil},
			{"the next key", "a", 4, 2, "", "c", nil},
			{"the former one", "a", 5, 2, "", "b", trust.ErrSignature},
		}},
		{"a machine without a clock sees nothing but the future", []step{
			{"to b and x", "a", 1, 100, "bx", "abx", nil},
			{"x is dropped", "a", 2, 102, "b", "b", nil},
			{"an old story", "a", 3, 101, "bx", "bx", nil},
			{"x is not back", "a", 4, 103, "", "x", trust.ErrSignature},
			{"the next change", "a", 4, 104, "c", "bc", nil},
			{"the next key", "a", 5, 105, "", "c", nil},
		}},
		{"a build that pins the present key has seen the same", []step{
			{"to b and x", "a", 1, 0, "bx", "abx", nil},
			{"x is dropped", "a", 2, 2, "b", "b", nil},
			{"an old story", "b", 3, 1, "bx", "bx", nil},
			{"x is not back", "b", 4, 3, "", "x", trust.ErrSignature},
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

// That listed keys are passed over is told, unless they are the present ones.
func TestVerify_rotationPassedOverIsLogged(t *testing.T) {
	var log bytes.Buffer
	v, err := trust.NewStatements(public("a"), trust.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	must(t, err)
	dir := t.TempDir()
	step{"change", "a", 1, 2, "b", "ab", nil}.show(t, dir)
	for i, keys := range []string{"b", "c", "b"} {
		x := with(index(), func(x *trust.Index) { x.Sequence += uint64(i); x.Keys = public(letters(keys)...) })
		_, err := v.Index(claim(dir), sign(t, x, "b", "c"))
		must(t, err)
		want(t, "times told", strings.Count(log.String(), "passed over"), min(i, 1))
	}
}
