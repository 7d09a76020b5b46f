package floorplan

import (
	"fmt"
	"go/build/constraint"
	"strings"
	"testing"
)

func TestTags_leaveNothingUnchecked(t *testing.T) { report(t, badTags(house(t))) }

// badTags lists files that the linter does not see, or not with the others: it
// reads the tree once, on Linux and with the tag interop.
func badTags(sources []source) []string {
	var bad []string
	for _, s := range sources {
		for _, group := range s.ast.Comments {
			for _, c := range group.List {
				if !constraint.IsGoBuild(c.Text) {
					continue
				}
				expr, err := constraint.Parse(c.Text)
				if err != nil {
					bad = append(bad, fmt.Sprintf("%s: %v", s.line(c.Pos()), err))
					continue
				}
				expr.Eval(func(tag string) bool {
					if tag != "linux" && tag != "interop" {
						bad = append(bad, fmt.Sprintf("%s: the tag %s is not one that the linter and CI set", s.line(c.Pos()), tag))
					}
					return true
				})
				if strings.Contains(expr.String(), "!interop") {
					bad = append(bad, fmt.Sprintf("%s: !interop keeps the file from the linter", s.line(c.Pos())))
				}
			}
		}
	}
	return bad
}

func TestBadTags_found(t *testing.T) {
	file := func(line string) string { return line + "\n\npackage p\n" }
	expect(t, badTags(model(t, map[string]string{
		"a.go": file("//go:build interop"), "b.go": file("//go:build linux && interop"), "c.go": file("//go:build !linux"),
		"d.go": file("//go:build slow || interop"), "e.go": file("//go:build !interop"), "f.go": file("//go:build linux &&"),
	})), "d.go:1: the tag slow", "e.go:1: !interop keeps", "f.go:1: ")
}
