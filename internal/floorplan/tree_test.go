package floorplan

import (
	"bufio"
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// source is one Go file of the module.
type source struct {
	name  string // slash-separated, from the module's root
	test  bool
	lines int
	set   *token.FileSet
	ast   *ast.File
}

func (s source) dir() string     { return path.Dir(s.name) }
func (s source) generated() bool { return ast.IsGenerated(s.ast) }

// imports lists the import paths of the file.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// line is "file:line" of a position in the file.
func (s source) line(pos token.Pos) string {
	return s.name + ":" + strconv.Itoa(s.set.Position(pos).Line)
}

// house reads every Go file of this module.
func house(t *testing.T) []source {
	t.Helper()
	var sources []source
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, name, d.Name())
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		sources = append(sources, parse(t, filepath.ToSlash(rel), text))
		return nil
	})
	if err != nil {
		t.Fatalf("read the module: %v", err)
	}
	return sources
}

// enter skips what the go command skips: hidden directories, testdata, and
// nested modules.
func enter(root, name, base string) error {
	if name == root {
		return nil
	}
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

func parse(t *testing.T, name string, text []byte) source {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	lines := 0
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		lines++
	}
	return source{name: name, test: strings.HasSuffix(name, "_test.go"), lines: lines, set: set, ast: f}
}

// model is a small tree for testing the rules themselves.
func model(t *testing.T, files map[string]string) []source {
	t.Helper()
	var sources []source
	for name, text := range files {
		sources = append(sources, parse(t, name, []byte(text)))
	}
	sort.Slice(sources, func(i, j int) bool { return sources[i].name < sources[j].name })
	return sources
}

// covers says whether a name of the tables means dir: itself, or, ending in
// /..., something below it.
func covers(name, dir string) bool {
	if top, ok := strings.CutSuffix(name, "/..."); ok {
		return dir == top || strings.HasPrefix(dir, top+"/")
	}
	return name == dir
}

func anyCovers(names []string, dir string) bool {
	for _, name := range names {
		if name == anyone || covers(name, dir) {
			return true
		}
	}
	return false
}

// below says whether an import path is library or something below it.
func below(library, path string) bool {
	return path == library || strings.HasPrefix(path, library+"/")
}

// report fails the test with one message per violation.
func report(t *testing.T, violations []string) {
	t.Helper()
	for _, v := range violations {
		t.Error(v)
	}
}

// expect fails unless the violations are as many as the wanted texts and each
// holds its own.
func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d violations, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("violation %q does not hold %q", got[i], want[i])
		}
	}
}
