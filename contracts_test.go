package omahaclient_test

import (
	"go/ast"
	"go/parser"
	gotoken "go/token" // isolation_test.go has a token
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The index at the head of channel_test.go names tests that are there, in files that are there.
func TestContracts_indexNamesTests(t *testing.T) {
	index, tests := contractIndex(t), testNames(t)
	named := 0
	last := "" // what "_suffix" goes on from
	for _, word := range regexp.MustCompile(`\w+_test\.go|Test\w*…?|\b_\w+`).FindAllString(index, -1) {
		switch {
		case strings.HasSuffix(word, "_test.go"):
			if _, err := os.Stat(word); err != nil {
				t.Errorf("the index names a file: %v", err)
			}
			continue
		case strings.HasPrefix(word, "_"):
			word = last + word
		}
		named++
		last, _, _ = strings.Cut(strings.TrimSuffix(word, "…"), "_")
		if prefix, whole := strings.CutSuffix(word, "…"); whole {
			if !hasPrefixIn(prefix, tests) {
				t.Errorf("the index names %s; no test begins like that", word)
			}
		} else if !tests[word] {
			t.Errorf("the index names %s; there is no such test", word)
		}
	}
	if named < 50 {
		t.Errorf("%d tests found in the index; it has more: is it read rightly?", named)
	}
}

// contractIndex is the comment with the index.
func contractIndex(t *testing.T) string {
	t.Helper()
	for _, comment := range parsed(t, "channel_test.go").Comments {
		if text := comment.Text(); strings.HasPrefix(text, "The tests of the public contracts.") {
			return text
		}
	}
	t.Fatal("channel_test.go has no index of contracts")
	return ""
}

// testNames are the tests of this folder, whatever system they are for.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	must(t, err)
	names := map[string]bool{}
	for _, file := range files {
		for _, decl := range parsed(t, file).Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

func parsed(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
	must(t, err)
	return f
}

func hasPrefixIn(prefix string, names map[string]bool) bool {
	for name := range names {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
