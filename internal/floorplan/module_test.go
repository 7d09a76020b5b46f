package floorplan

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestModule_pathAndPins(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	report(t, badModule(string(text)))
}

// badModule lists what go.mod must not say.
func badModule(text string) []string {
	var bad []string
	if !strings.HasPrefix(text, "module "+modulePath+"\n") {
		bad = append(bad, "go.mod: the module is "+modulePath+"; everything below imports that path")
	}
	for _, line := range strings.Split(text, "\n") {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(words) < 2 {
			continue
		}
		name, version := words[0], words[1]
		if name == "replace" || name == "exclude" {
			bad = append(bad, fmt.Sprintf("go.mod: %q: `go install %s/cmd/conclave@VERSION` ignores it, so users would get another build",
				strings.TrimSpace(line), modulePath))
		}
		if pin, ok := pins[name]; ok && version != pin.version {
			bad = append(bad, fmt.Sprintf("go.mod: %s %s, pinned to %s: %s", name, version, pin.version, pin.reason))
		}
		if below("go.etcd.io/etcd/server/v3", name) || below("go.etcd.io/etcd/etcdctl/v3", name) || below("go.etcd.io/raft/v3", name) {
			bad = append(bad, fmt.Sprintf("go.mod: %s: etcd's own server is built in a nested module under test/, never a dependency of the product", name))
		}
	}
	return bad
}

func TestBadModule_found(t *testing.T) {
	expect(t, badModule("module example.com/x\n\nrequire github.com/hashicorp/raft v1.9.0\nrequire (\n"+
		"\tgithub.com/hashicorp/raft-wal v0.4.1 // indirect\n\tgo.etcd.io/etcd/server/v3 v3.7.3\n)\nreplace a => b\n"),
		"the module is "+modulePath, "raft v1.9.0, pinned to v1.8.0", "etcd's own server", `"replace a => b"`)
}
