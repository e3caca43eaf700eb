// Package docs_test holds the repository's prose to its code: what README.md, CONTRIBUTING.md and docs/*.md show must compile,
// and what they link to must be there.
package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// block is a fenced piece of Go.
type block struct {
	where string // file:line of its first line
	code  string
}

var fence = regexp.MustCompile("(?ms)^[ \t]*```go[^\n]*\n(.*?)^[ \t]*```[ \t]*$")

func blocks(name, text string) []block {
	var found []block
	for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
		line := 1 + strings.Count(text[:at[2]], "\n")
		found = append(found, block{fmt.Sprintf("%s:%d", name, line), text[at[2]:at[3]]})
	}
	return found
}

// pages returns the text of the pages by name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, name := range append(names, root+"/README.md", root+"/CONTRIBUTING.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimPrefix(filepath.ToSlash(name), root+"/")] = string(text)
	}
	return texts
}

// A block passes when some Go file has the same lines, indentation aside, or else when it compiles: as it is if it has
// a package clause, otherwise within a function that has a ctx, with this module's packages and the usual standard ones imported.
func TestPages_codeCompiles(t *testing.T) {
	sources := goFiles(t)
	broken := map[string]string{} // file to be, by block
	for name, text := range pages(t) {
		for _, b := range blocks(name, text) {
			if !slices.ContainsFunc(sources, func(source string) bool { return strings.Contains(source, plain(b.code)) }) {
				broken[b.where] = wrap(t, b)
			}
		}
	}
	if len(broken) > 0 {
		compile(t, broken)
	}
}

// plain drops indentation, trailing space and empty lines.
func plain(code string) string {
	var out strings.Builder
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			out.WriteString("\n" + line)
		}
	}
	return out.String() + "\n"
}

func goFiles(t *testing.T) []string {
	t.Helper()
	var sources []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || len(path) > 1 && strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case filepath.Ext(path) != ".go":
			return nil
		}
		source, err := os.ReadFile(filepath.Join(root, path))
		sources = append(sources, plain(string(source)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

// wrap makes a Go file of a block.
func wrap(t *testing.T, b block) string {
	t.Helper()
	line := fmt.Sprintf("//line %s\n", b.where)
	if regexp.MustCompile(`(?m)^package \w+`).MatchString(b.code) {
		return line + b.code
	}
	body := "func _(ctx context.Context) {\n_ = ctx\n" + line + b.code + "}\n"
	if regexp.MustCompile(`(?m)^(func|type) `).MatchString(b.code) {
		body = line + b.code
	}
	file, err := parser.ParseFile(token.NewFileSet(), b.where, "package block\n"+body, 0)
	if err != nil {
		t.Errorf("%s: %v", b.where, err)
		return "package block"
	}
	return "package block\n" + imports(file) + body
}

// imports declares the packages that a file names without importing them.
func imports(file *ast.File) string {
	known := map[string]string{"omahaclient": "github.com/nebraska/omahaclient"}
	for _, own := range []string{"apply", "fetcher", "omaha", "pool"} {
		known[own] = known["omahaclient"] + "/" + own
	}
	for _, std := range []string{
		"context", "crypto/tls", "crypto/x509", "errors", "fmt", "io", "log", "log/slog", "net/http", "net/url",
		"os", "os/exec", "os/signal", "path/filepath", "strings", "sync", "syscall", "time",
	} {
		known[std[strings.LastIndex(std, "/")+1:]] = std
	}
	var lines []string
	ast.Inspect(file, func(node ast.Node) bool {
		if selector, ok := node.(*ast.SelectorExpr); ok {
			if id, ok := selector.X.(*ast.Ident); ok && id.Obj == nil && known[id.Name] != "" {
				lines = append(lines, fmt.Sprintf("import %q\n", known[id.Name]))
			}
		}
		return true
	})
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "")
}

// compile builds files that are in the module for the compiler only, by an overlay: nothing is written to the tree.
func compile(t *testing.T, files map[string]string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	overlayFile := filepath.Join(t.TempDir(), "overlay.json")
	args := []string{"build", "-o", os.DevNull, "-overlay", overlayFile}
	for where, source := range files {
		number := len(replace)
		file := filepath.Join(t.TempDir(), "block.go")
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(here, fmt.Sprintf("block%d", number), "block.go")] = file
		args = append(args, fmt.Sprintf("./block%d", number))
		t.Logf("block%d is %s", number, where)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("these blocks stand in no Go file, and do not compile either (%v): put what they show into an example\n%s", err, out.String())
	}
}

var (
	link = regexp.MustCompile(`\]\(([^)#?\s]+)[^)]*\)`)
	code = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```[ \t]*$|`[^`\n]*`")
)

func TestPages_linksLeadSomewhere(t *testing.T) {
	for name, text := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			if strings.Contains(match[1], "://") || strings.HasPrefix(match[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), match[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, match[1], err)
			}
		}
	}
}

func TestWrap_findsWhatIsWrong(t *testing.T) {
	for _, tc := range []struct{ name, code, want string }{
		{"a statement", "fmt.Println(ctx)\n", "import \"fmt\"\n"},
		{"a declaration", "func f() error { return errors.New(\"x\") }\n", "import \"errors\"\n"},
		{"a local name", "time := struct{ Now int }{}\n_ = time.Now\n", "package block\nimport \"context\"\nfunc"},
		{"a whole file", "package main\n\nfunc main() {}\n", "package main"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := wrap(t, block{"page.md:1", tc.code}); !strings.Contains(got, tc.want) {
				t.Errorf("%q is not in:\n%s", tc.want, got)
			}
		})
	}
	page := "# x\n\n```go\na\n```\n\n- y\n\n  ```go\n  b\n  ```\n\n```sh\nc\n```\n"
	if got := blocks("p.md", page); len(got) != 2 || got[0] != (block{"p.md:4", "a\n"}) || got[1] != (block{"p.md:10", "  b\n"}) {
		t.Errorf("blocks = %q", got)
	}
}
