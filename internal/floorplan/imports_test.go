package floorplan

import (
	"fmt"
	"sort"
	"strings"
	"testing"
)

func TestImports_followFloorPlan(t *testing.T) { report(t, badImports(house(t))) }

func TestImports_enterByTheirDoor(t *testing.T) { report(t, badDoors(house(t))) }

// rowOf finds a directory's row.
func rowOf(dir string) ([]string, bool) {
	if allowed, ok := rows[dir]; ok {
		return allowed, true
	}
	for name, allowed := range rows {
		if covers(name, dir) {
			return allowed, true
		}
	}
	return nil, false
}

// badImports lists imports of ours that no row allows, and packages without a
// row. Test files may import what they test with.
func badImports(sources []source) []string {
	var bad []string
	unlisted := map[string]bool{}
	for _, s := range sources {
		allowed, ok := rowOf(s.dir())
		if !ok {
			if !unlisted[s.dir()] {
				unlisted[s.dir()] = true
				bad = append(bad, fmt.Sprintf("package %s is not on the floor plan: put its code where its duty already lives; "+
					"if the duty is really new, add a row to internal/floorplan/table_test.go and docs/ARCHITECTURE.md", s.dir()))
			}
			continue
		}
		if s.test {
			continue
		}
		for _, path := range s.imports() {
			dir, ours := strings.CutPrefix(path, modulePath+"/")
			if ours && !anyCovers(allowed, dir) && !anyCovers(floor, dir) {
				bad = append(bad, fmt.Sprintf("%s imports %s: %s may import only %s, so that engines never know each other; "+
					"declare the small interface it needs in %[3]s and let daemon pass the other side in", s.name, dir, s.dir(), list(allowed)))
			}
		}
	}
	return bad
}

// list names what a row allows.
func list(allowed []string) string {
	all := append(append([]string{}, allowed...), floor...)
	sort.Strings(all)
	return strings.Join(all, ", ")
}

// badDoors lists third-party imports that come in elsewhere than by their
// door, or have none.
func badDoors(sources []source) []string {
	var bad []string
	for _, s := range sources {
		if s.test {
			continue
		}
		for _, path := range s.imports() {
			if !strings.Contains(strings.Split(path, "/")[0], ".") || below(modulePath, path) {
				continue // the standard library, or ours
			}
			d, ok := doorOf(path)
			switch {
			case !ok:
				bad = append(bad, fmt.Sprintf("%s imports %s, which has no door: do without it, or name the one package "+
					"that may speak it in doors (internal/floorplan/table_test.go)", s.name, path))
			case !anyCovers(d.packages, s.dir()):
				bad = append(bad, fmt.Sprintf("%s imports %s: %s; its door is %s", s.name, path, d.reason, doorNames(d)))
			}
		}
	}
	return bad
}

// doorOf finds the door with the longest library that path is under.
func doorOf(path string) (door, bool) {
	var best door
	for _, d := range doors {
		if below(d.library, path) && len(d.library) > len(best.library) {
			best = d
		}
	}
	return best, best.library != ""
}

func doorNames(d door) string {
	if len(d.packages) == 0 {
		return "closed"
	}
	return strings.Join(d.packages, ", ")
}

func TestRows_haveNoCycle(t *testing.T) {
	const visiting, done = 1, 2
	state := map[string]int{}
	var visit func(dir string, trail []string)
	visit = func(dir string, trail []string) {
		trail = append(trail, dir)
		switch state[dir] {
		case visiting:
			t.Errorf("the floor plan has a cycle: %s", strings.Join(trail, " -> "))
			return
		case done:
			return
		}
		state[dir] = visiting
		for _, next := range rows[dir] {
			if next != dir { // packages of one /... row may import each other
				visit(next, trail)
			}
		}
		state[dir] = done
	}
	for dir := range rows {
		visit(dir, nil)
	}
}

func TestRows_nameKnownPackages(t *testing.T) {
	known := func(name string) bool { _, ok := rows[name]; return ok }
	for dir, allowed := range rows {
		for _, name := range append(allowed, floor...) {
			if !known(name) {
				t.Errorf("the row of %s names %s, which has no row", dir, name)
			}
		}
	}
	for _, d := range doors {
		for _, name := range d.packages {
			if name != anyone && !known(name) {
				t.Errorf("the door of %s names %s, which has no row", d.library, name)
			}
		}
	}
	for _, name := range fenced {
		if !known(name) {
			t.Errorf("the fence names %s, which has no row", name)
		}
	}
}

func TestBadImports_found(t *testing.T) {
	expect(t, badImports(model(t, map[string]string{
		"kv/a.go":               `package kv; import _ "` + modulePath + `/auth"`,
		"kv/a_test.go":          `package kv; import _ "` + modulePath + `/auth"`,
		"kv/b.go":               `package kv; import _ "` + modulePath + `/internal/version"`,
		"member/a.go":           `package member; import _ "` + modulePath + `/internal/testcluster"`,
		"member/b.go":           `package member; import _ "` + modulePath + `/kv"`,
		"bench/internal/x/a.go": `package x; import _ "` + modulePath + `/bench/internal/y"`,
		"util/a.go":             `package util`,
		"util/a_test.go":        `package util`,
	})), "kv/a.go imports auth", "member/a.go imports internal/testcluster", "package util is not on the floor plan")
}

func TestBadDoors_found(t *testing.T) {
	expect(t, badDoors(model(t, map[string]string{
		"api/a.go":              `package api; import (_ "google.golang.org/grpc/codes"; _ "strings")`,
		"bench/internal/x/a.go": `package x; import _ "google.golang.org/grpc"`,
		"kv/a.go":               `package kv; import _ "google.golang.org/grpc/codes"`,
		"kv/a_test.go":          `package kv; import _ "google.golang.org/grpc/codes"`,
		"kv/b.go":               `package kv; import _ "go.etcd.io/etcd/client/v3"`,
		"kv/c.go":               `package kv; import _ "go.etcd.io/etcd/api/v3/mvccpb"`,
		"member/a.go":           `package member; import (_ "github.com/rs/zerolog"; _ "github.com/hashicorp/raft")`,
		"raftstore/a.go":        `package raftstore; import (_ "github.com/hashicorp/raft"; _ "github.com/hashicorp/raft-wal")`,
		"web/a.go":              `package web; import (_ "github.com/rs/zerolog/log"; _ "example.com/left-pad")`,
	})),
		"kv/a.go imports google.golang.org/grpc/codes", "kv/b.go imports go.etcd.io/etcd/client/v3",
		"member/a.go imports github.com/hashicorp/raft", "its door is closed", "example.com/left-pad, which has no door")
}
