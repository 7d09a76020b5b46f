package floorplan

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestPackages_areDocumented(t *testing.T) { report(t, badDocs(house(t))) }

// badDocs lists packages whose doc.go is missing or says too little.
func badDocs(sources []source) []string {
	var dirs []string
	docs := map[string]string{}
	for _, s := range sources {
		if !slices.Contains(dirs, s.dir()) {
			dirs = append(dirs, s.dir())
		}
		if path.Base(s.name) == "doc.go" && s.ast.Doc != nil {
			docs[s.dir()] = s.ast.Doc.Text()
		}
	}
	var bad []string
	for _, dir := range dirs {
		doc := docs[dir]
		switch {
		case doc == "":
			bad = append(bad, fmt.Sprintf("%s/doc.go with a package comment is missing: say what the package is for, "+
				"what it must not know, and which goroutines it owns", dir))
		case !strings.HasPrefix(doc, "Package ") && !strings.HasPrefix(doc, "Command ") && !strings.HasPrefix(doc, "Conclave "):
			bad = append(bad, fmt.Sprintf("%s/doc.go: begin the package comment with Package (or Command) and the name", dir))
		case !strings.Contains(strings.ToLower(doc), "goroutine"):
			bad = append(bad, fmt.Sprintf("%s/doc.go: say which goroutines the package owns, or that it owns none", dir))
		}
	}
	return bad
}

func TestBadDocs_found(t *testing.T) {
	expect(t, badDocs(model(t, map[string]string{
		"api/a.go": "package api", "api/doc.go": "// Package api speaks. It owns no goroutine.\npackage api",
		"auth/a.go": "package auth", "auth/doc.go": "package auth",
		"kv/a.go":       "// Package kv keeps keys. It owns no goroutine.\npackage kv",
		"member/doc.go": "// Package member asks.\npackage member",
		"web/doc.go":    "// Files. No goroutine.\npackage web",
	})), "auth/doc.go with a package comment is missing", "kv/doc.go with a package comment is missing",
		"member/doc.go: say which goroutines", "web/doc.go: begin the package comment")
}
