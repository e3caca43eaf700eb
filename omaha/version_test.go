package omaha_test

import (
	"testing"

	"github.com/nebraska/omahaclient/omaha"
)

func TestNormalizeVersion(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"1.2.3", "1.2.3"},
		{"v0.1.2", "0.1.2"},
		{"1.0.0-alpha.1", "1.0.0-alpha.1"},
		{"1.0.0+build.5", "1.0.0+build.5"},
		{"", ""}, {"v", ""}, {"1.0", ""}, {"1.0.0.0", ""}, {"01.0.0", ""}, {"vv1.0.0", ""}, {"V1.0.0", ""},
		{" 1.0.0", ""}, {"1.0.0-", ""}, {"1.0.0-01", ""}, {"2026-08-01", ""}, {"1.0.0-\x00", ""}, {"-1.0.0", ""},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := omaha.NormalizeVersion(tt.in)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			if err != nil {
				saysAll(t, err, "MAJOR.MINOR.PATCH")
			}
		})
	}
}

func TestCompareVersions(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		cmp  int
		ok   bool
	}{
		{"1.0.0", "1.0.0", 0, true},
		{"v1.0.0", "1.0.0", 0, true},
		{"1.10.0", "1.9.0", 1, true},
		{"1.0.0-rc.1", "1.0.0", -1, true},
		{"1.0.0-rc.2", "1.0.0-rc.10", -1, true},
		{"1.0.0+a", "1.0.0+b", 0, true},
		{"1.0.0.0", "1.0.0", 0, false},
		{"2026-08-01", "2026-08-01", 0, false},
		{"", "1.0.0", 0, false},
	} {
		t.Run(tt.a+" "+tt.b, func(t *testing.T) {
			if cmp, ok := omaha.CompareVersions(tt.a, tt.b); cmp != tt.cmp || ok != tt.ok {
				t.Errorf("got %d, %v", cmp, ok)
			}
			if cmp, ok := omaha.CompareVersions(tt.b, tt.a); cmp != -tt.cmp || ok != tt.ok {
				t.Errorf("the other way round: got %d, %v", cmp, ok)
			}
		})
	}
}
