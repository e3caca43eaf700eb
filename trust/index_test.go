package trust_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/trust"
)

// index is a release index with a head for claim().
func index() trust.Index {
	return trust.Index{
		Sequence: 40, Issued: day(0), Expires: day(7),
		Heads: []trust.Head{
			{App: app, Channel: "stable", Arch: "amd64", Version: "2.0.0", Sequence: 5},
			{App: app, Channel: "beta", Arch: trust.AnyArch, Version: "3.0.0", Sequence: 9},
			{App: app, Channel: "", Arch: trust.AnyArch, Version: "1.1.0", Sequence: 3},
			{App: app, Channel: "", Arch: "amd64", Version: "1.0.0", Sequence: 2},
		},
	}
}

func TestIndex_head(t *testing.T) {
	for _, tc := range []struct{ name, app, channel, arch, version string }{
		{"stable", app, "stable", "amd64", "2.0.0"},
		{"id of another case", strings.ToLower(app), "stable", "amd64", "2.0.0"},
		{"for every architecture", app, "beta", "riscv64", "3.0.0"},
		{"its own before every one's", app, "", "amd64", "1.0.0"},
		{"every one's without its own", app, "", "arm64", "1.1.0"},
		{"another app", "other", "stable", "amd64", ""},
		{"another channel", app, "Stable", "amd64", ""},
		{"another architecture", app, "stable", "arm64", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := trust.Claim{AppID: tc.app, Channel: tc.channel, Arch: tc.arch, Now: day(1), Dir: t.TempDir()}
			head, err := verifier(t, "a").Index(c, sign(t, index(), "a"))
			if tc.version == "" {
				wantErr(t, err, trust.ErrMismatch)
				return
			}
			must(t, err)
			want(t, "version", head.Version, tc.version)
		})
	}
}

// A story in one directory, told in order, each step by a process of its own.
func TestIndex_story(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name   string
		now    int
		change func(*trust.Index)
		signer string
		want   error
	}{
		{"fresh", 1, func(*trust.Index) {}, "a", nil},
		{"the same again", 2, func(*trust.Index) {}, "a", nil},
		{"forged", 2, func(x *trust.Index) { x.Sequence = 99 }, "x", trust.ErrSignature},
		{"newer", 3, func(x *trust.Index) { x.Sequence, x.Issued, x.Expires = 41, day(2), day(9) }, "a", nil},
		{"the former one", 4, func(*trust.Index) {}, "a", trust.ErrRollback},
		{"another of the same sequence", 4, func(x *trust.Index) { x.Sequence = 41 }, "a", trust.ErrMismatch},
		{"expired", 9, func(x *trust.Index) { x.Sequence, x.Issued, x.Expires = 41, day(2), day(9) }, "a", trust.ErrExpired},
		{"newer again", 9, func(x *trust.Index) { x.Sequence, x.Expires = 50, day(20) }, "a", nil},
		{"the clock was set back", -20, func(x *trust.Index) { x.Sequence, x.Issued, x.Expires = 51, day(-30), day(1) }, "a", trust.ErrExpired},
	} {
		c := claim(dir)
		c.Now = day(tc.now)
		_, err := verifier(t, "a").Index(c, sign(t, with(index(), tc.change), tc.signer))
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// A statement is no index, though the same key signed it.
func TestIndex_otherDocument(t *testing.T) {
	_, err := verifier(t, "a").Index(claim(t.TempDir()), sign(t, release(), "a"))
	wantErr(t, err, trust.ErrMalformed)
}

// The sequences of indexes and statements have nothing to do with each other.
func TestIndex_besideStatements(t *testing.T) {
	dir, v := t.TempDir(), verifier(t, "a")
	for range 2 {
		_, err := v.Index(claim(dir), sign(t, index(), "a"))
		must(t, err)
		_, err = v.Verify(t.Context(), claim(dir, sign(t, release(), "a")))
		must(t, err)
	}
}
