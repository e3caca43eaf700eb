package fetcher

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

// fileName returns the base name of a payload's file: its label where that is a plain file name on every operating system, else
// one that is derived from it.
func fileName(label string) string {
	if isPlain(label) {
		return label
	}
	if label == "" {
		return "payload"
	}
	sum := sha256.Sum256([]byte(label))
	return "payload-" + hex.EncodeToString(sum[:8])
}

// isPlain says whether a file can have this name on Linux, macOS and Windows, stays in its folder there, looks like what it is, and
// gets not in the way of the files that a download makes.
func isPlain(name string) bool {
	if name == "" || len(name) > 255 || !utf8.ValidString(name) || strings.ContainsAny(name, `<>:"/\|?*`) {
		return false
	}
	for _, r := range name {
		if !unicode.IsPrint(r) { // control characters, marks that turn the writing direction, odd spaces
			return false
		}
	}
	if strings.HasPrefix(name, " ") || strings.HasSuffix(name, " ") || strings.HasSuffix(name, ".") { // "." and ".." too
		return false
	}
	lower := strings.ToLower(name)
	return !isDevice(lower) && !strings.HasSuffix(lower, ".partial") && !strings.HasSuffix(lower, ".tag")
}

// isDevice tells the names that Windows keeps for devices, with any extension ("Naming Files, Paths, and Namespaces").
func isDevice(lower string) bool {
	stem, _, _ := strings.Cut(lower, ".")
	stem = strings.TrimRight(stem, " ")
	switch stem {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return true
	}
	for _, port := range []string{"com", "lpt"} {
		n, ok := strings.CutPrefix(stem, port)
		if r, size := utf8.DecodeRuneInString(n); ok && size == len(n) && strings.ContainsRune("0123456789¹²³", r) {
			return true
		}
	}
	return false
}
