package floorplan

import (
	"fmt"
	"go/ast"
	"testing"
)

func TestFence_keepsClockChanceNetworkOut(t *testing.T) { report(t, badFence(house(t))) }

// badFence lists imports and go statements that would let members come to
// different results from the same log.
func badFence(sources []source) []string {
	var bad []string
	for _, s := range sources {
		if s.test || !anyCovers(fenced, s.dir()) {
			continue
		}
		for _, path := range s.imports() {
			if isOutside(path) {
				bad = append(bad, fmt.Sprintf("%s imports %q: %s decides what agreed commands mean, and every member must decide alike; "+
					"do it before the log (member, auth/token or pki) and put the result into the command", s.name, path, s.dir()))
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if stmt, ok := n.(*ast.GoStmt); ok {
				bad = append(bad, fmt.Sprintf("%s starts a goroutine: the order of what %s does must come from the log alone; "+
					"let member own the goroutine and call in", s.line(stmt.Pos()), s.dir()))
			}
			return true
		})
	}
	return bad
}

func isOutside(path string) bool {
	for _, p := range inside {
		if below(p, path) {
			return false
		}
	}
	for _, p := range outside {
		if below(p, path) {
			return true
		}
	}
	return false
}

func TestBadFence_found(t *testing.T) {
	expect(t, badFence(model(t, map[string]string{
		"auth/a.go":       `package auth; import (_ "net/http"; _ "net/url"; _ "sort")`,
		"auth/token/a.go": `package token; import (_ "time"; _ "crypto/rand")`,
		"kv/a.go":         "package kv\n\nfunc f() {\n\tgo f()\n}\n",
		"kv/b.go":         `package kv; import (_ "time"; _ "math/rand/v2")`,
		"kv/c_test.go":    "package kv\n\nimport _ \"time\"\n\nfunc g() { go g() }\n",
	})), `auth/a.go imports "net/http"`, "kv/a.go:4 starts a goroutine", `kv/b.go imports "time"`, `kv/b.go imports "math/rand/v2"`)
}

func TestLogger_builtOnlyAtTheTop(t *testing.T) { report(t, badLoggers(house(t))) }

// badLoggers lists places that make a logger instead of taking one; cmd,
// internal/logging and what only tests run may.
func badLoggers(sources []source) []string {
	var bad []string
	for _, s := range sources {
		if s.test || anyCovers([]string{"cmd/conclave", "internal/logging", "internal/testcluster", "bench/..."}, s.dir()) {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "zerolog" && (sel.Sel.Name == "New" || sel.Sel.Name == "NewConsoleWriter") {
				bad = append(bad, fmt.Sprintf("%s builds a logger: take a zerolog.Logger as an argument, so that --log-level, "+
					"--log-format and --log-outputs hold for every line", s.line(sel.Pos())))
			}
			return true
		})
	}
	return bad
}

func TestBadLoggers_found(t *testing.T) {
	const builds = "package p\n\nimport \"github.com/rs/zerolog\"\n\nvar l = zerolog.New(nil)\n"
	expect(t, badLoggers(model(t, map[string]string{
		"cmd/conclave/a.go": builds, "kv/a.go": builds, "kv/a_test.go": builds,
		"pki/a.go": "package pki\n\nimport \"github.com/rs/zerolog\"\n\nvar l = zerolog.Nop()\n",
	})), "kv/a.go:5 builds a logger")
}
