package fetcher_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nebraska/omahaclient/fetcher"
)

// hostile are labels that no file may have as its name.
var hostile = []string{
	"", ".", "..", "/", "a/b", "../a", "../../../../etc/passwd", "/etc/passwd", "a/../../b", "a/", "./a", "...", "a.", "a ", " a", "a\x00", "\x00", "a\nb", "a\tb", "\x7f",
	`a\b`, `..\..\windows`, `C:\x`, "C:", "c:x", `\\server\share`, `\\?\C:\x`, "a:stream", "a<b", "a>b", `a"b`, "a|b", "a?b", "a*b",
	"CON", "con", "Con.txt", "NUL", "nul.tar.gz", "nul .txt", "PRN", "AUX", "COM1", "com9.x", "COM¹", "LPT1", "lpt³.bin", "CONIN$", "conout$",
	strings.Repeat("a", 256), strings.Repeat("é", 128), "\xff\xfe", "a\u202egnp.exe", "a\u200bb", "a\u2028b",
	"sha256-00.partial", "X.PARTIAL", "a.partial.tag", "A.Tag",
}

// plain are labels that are kept.
var plain = []string{
	"a", "update.gz", "flatcar_production_update.gz", ".hidden", "-rf", "a b", "a..b", "..a", "ü.bin", "жук.img", "console", "com", "com10", "COM", "lpt", "nullable", "aux1",
	"a~1", "$HOME", "`x`", "a;b", "a&b", "%2e%2e%2f", "a,b", "a'b", "x.partial.gz", "tag", strings.Repeat("a", 255),
}

func TestFileName(t *testing.T) {
	seen := map[string]string{}
	for _, label := range hostile {
		got := fetcher.FileName(label)
		if got == label || !strings.HasPrefix(got, "payload") || fetcher.FileName(got) != got {
			t.Errorf("%q became %q", label, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q both became %q", label, other, got)
		}
		seen[got] = label
	}
	for _, label := range plain {
		if got := fetcher.FileName(label); got != label {
			t.Errorf("%q became %q", label, got)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range append(append([]string(nil), hostile...), plain...) {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, label string) {
		name := fetcher.FileName(label)
		switch {
		case name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." || len(name) > 255 || !utf8.ValidString(name):
			t.Fatalf("%q became %q", label, name)
		case strings.ContainsAny(name, "\x00/\\:*?\"<>|\n\r\t") || strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
			t.Fatalf("%q became %q", label, name)
		case fetcher.FileName(name) != name:
			t.Fatalf("%q became %q, and that %q", label, name, fetcher.FileName(name))
		}
		at := filepath.Join(dir, name)
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			t.Fatalf("%q: %v", label, err)
		}
		if filepath.Dir(at) != dir || os.Remove(at) != nil {
			t.Fatalf("%q became %q", label, at)
		}
	})
}
