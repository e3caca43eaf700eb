package omaha

import (
	"fmt"
	"strings"

	"github.com/blang/semver"
)

// NormalizeVersion returns s as Omaha servers want it: a strict semantic version (three numbers without leading
// zeros, optional pre-release and build) without the leading "v" that people write.
// It refuses what Nebraska refuses, such as "1.0", "1.0.0.0" and "01.0.0".
func NormalizeVersion(s string) (string, error) {
	v := strings.TrimPrefix(s, "v")
	if _, err := semver.Parse(v); err != nil {
		return "", fmt.Errorf("version %q: %w: write it as MAJOR.MINOR.PATCH, such as 1.2.3 or 1.2.3-beta.1", s, lowerError{err})
	}
	return v, nil
}

// CompareVersions returns -1, 0 or +1 as a is older than, as old as or newer than b. A leading v does not count,
// nor does build metadata; a pre-release is older than its release (Semantic Versioning 2.0.0, section 11).
// ok is false, and cmp 0, where either is no semantic version: such versions are only equal or not.
func CompareVersions(a, b string) (cmp int, ok bool) {
	va, errA := semver.Parse(strings.TrimPrefix(a, "v"))
	vb, errB := semver.Parse(strings.TrimPrefix(b, "v"))
	if errA != nil || errB != nil {
		return 0, false
	}
	return va.Compare(vb), true
}

// sentVersion is s on the wire. What is no semantic version goes as it is: servers other than Nebraska offer and
// take such versions.
func sentVersion(s string) string {
	if v, err := NormalizeVersion(s); err == nil {
		return v
	}
	return s
}

// lowerError starts a foreign message in lower case, to stand in the middle of ours.
type lowerError struct{ error }

func (e lowerError) Error() string {
	s := e.error.Error()
	return strings.ToLower(s[:1]) + s[1:]
}

func (e lowerError) Unwrap() error { return e.error }
