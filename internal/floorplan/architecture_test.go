package floorplan

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestArchitecture_tellsTheTables(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, s := range house(t) {
		exists[s.dir()] = true
	}
	report(t, badArchitecture(string(text), rows, exists))
}

// A row of the document's table: package, mark, purpose, imports.
var (
	docRow   = regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)`( \\(planned\\))? \\| [^|]+ \\| ([^|]+) \\|$")
	asides   = regexp.MustCompile(`\([^)]*\)`)
	unlisted = "test/..." // scripts and tests only: explained in the text
)

// badArchitecture lists where the document and the tables differ, and where it
// calls planned what exists, or the reverse.
func badArchitecture(text string, rows map[string][]string, exists map[string]bool) []string {
	const where = "docs/ARCHITECTURE.md"
	var bad []string
	told := map[string]bool{}
	for _, row := range docRow.FindAllStringSubmatch(text, -1) {
		name, planned := row[1], row[2] != ""
		told[name] = true
		allowed, ok := rows[name]
		if !ok {
			if allowed, ok = rows[name+"/..."]; !ok {
				bad = append(bad, fmt.Sprintf("%s: %s has no row in internal/floorplan/table_test.go", where, name))
				continue
			}
		}
		if planned == exists[name] {
			bad = append(bad, fmt.Sprintf("%s: %s is marked planned: %t, its code exists: %t; change the mark", where, name, planned, exists[name]))
		}
		if got, want := namesIn(row[3]), others(name, allowed); !slices.Equal(got, want) {
			bad = append(bad, fmt.Sprintf("%s: %s may import [%s], the test says [%s]: make them one", where, name,
				strings.Join(got, ", "), strings.Join(want, ", ")))
		}
	}
	for name := range rows {
		if !told[strings.TrimSuffix(name, "/...")] && name != unlisted {
			bad = append(bad, fmt.Sprintf("%s: the table lacks %s", where, name))
		}
	}
	slices.Sort(bad)
	return bad
}

// namesIn reads a cell such as "kv, auth (types only)", or "nothing".
func namesIn(cell string) []string {
	var names []string
	for name := range strings.SplitSeq(asides.ReplaceAllString(cell, ""), ",") {
		if name = strings.TrimSpace(name); name != "nothing" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// others are the names a row allows besides the package itself.
func others(name string, allowed []string) []string {
	var names []string
	for _, a := range allowed {
		if !covers(a, name) {
			names = append(names, a)
		}
	}
	slices.Sort(names)
	return names
}

func TestBadArchitecture_found(t *testing.T) {
	rows := map[string][]string{"kv": {}, "api": {"kv", "auth"}, "auth": {}, "web": {}, "bench/...": {"bench/..."}}
	text := "| `kv` (planned) | keys | nothing |\n| `api` | doors | kv (types), member |\n" +
		"| `auth` | rights | nothing |\n| `odd` | ? | nothing |\n| `bench` | measure | nothing |\n"
	expect(t, badArchitecture(text, rows, map[string]bool{"kv": true, "api": true, "bench": true}),
		"api may import [kv, member], the test says [auth, kv]", "auth is marked planned: false, its code exists: false",
		"kv is marked planned: true, its code exists: true", "odd has no row", "the table lacks web")
}
