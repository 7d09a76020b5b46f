//go:build interop

package cluster_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// refusalTimeout bounds how long a start that must be refused may take.
const refusalTimeout = 30 * time.Second

// refusal waits for a start to be refused: exit status not 0, and one line for
// the operator that begins with Error: and has the given parts.
func refusal(t *testing.T, p *process, parts ...string) {
	t.Helper()
	if code := p.exit(refusalTimeout); code == 0 || code == -1 {
		t.Errorf("%s ended with %s, not an exit code of its own", p.name, p.cmd.ProcessState)
	}
	var lines []string
	for line := range strings.Lines(p.said()) {
		if !strings.HasPrefix(line, "{") { // a log line
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "Error: ") {
		t.Errorf("%s: want one line that begins with Error: besides the log, got %q", p.name, lines)
	}
	contains(t, p.name, strings.Join(lines, "\n"), parts...)
	t.Logf("%s", strings.Join(lines, "\n"))
}

// untouched fails when there is anything in what would be a data directory.
func untouched(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	for _, e := range entries {
		t.Errorf("a refused start left %s in %s", e.Name(), dir)
	}
}

// A member whose data directory was lost might vote twice under its id. It is
// refused, with the way back; the others go on.
func TestWiped_isRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		secure bool
		parts  []string
	}{
		{"plaintext", false, []string{"member m3 ", "started with another data directory before", "start it with that directory", "add it again"}},
		{"ownCA", true, []string{"member m3 ", "its data was lost", "remove it and add it again", "member remove"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, 3, c.secure)
			if c.secure {
				g.settle()
			}
			clients := g.dial(g.members[0], g.members[1])
			// Twice: the second refusal must not have been weakened by the first, nor
			// by a restart of the others in between.
			for range 2 {
				wiped := g.members[2]
				if wiped.proc.running() {
					wiped.proc.kill()
				}
				if err := os.RemoveAll(wiped.data); err != nil {
					t.Fatal(err)
				}
				refusal(t, wiped.launch(), c.parts...)
				untouched(t, wiped.data)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				if _, err := clients.Put(ctx, "k", "v"); err != nil {
					t.Errorf("the others: %v", err)
				}
				cancel()
				for _, m := range g.members[:2] {
					m.proc.stop()
				}
				for _, m := range g.members[:2] {
					m.launch()
				}
				for _, m := range g.members[:2] {
					m.serves()
				}
			}
		})
	}
}

// One witness is enough.
func TestWiped_oneWitness(t *testing.T) {
	t.Parallel()
	g := start(t, 3, false)
	witness, down, wiped := g.members[0], g.members[1], g.members[2]
	down.proc.stop()
	wiped.proc.kill()
	if err := os.RemoveAll(wiped.data); err != nil {
		t.Fatal(err)
	}
	refusal(t, wiped.launch(), "another data directory")
	untouched(t, wiped.data)
	down.launch()
	down.serves()
	witness.serves()
}
