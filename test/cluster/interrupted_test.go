//go:build interop

package cluster_test

import (
	"context"
	"os"
	"testing"
	"time"
)

// moments are what a member says on its way into a new cluster.
var moments = []string{
	"found the first peers", "established connection with peer", "replayed the log",
	"entering follower state", "issued this member's certificates", "ready to serve client requests",
}

// A member, or all of them, killed at any moment of a first start need only be
// started again.
func TestForming_interrupted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		victims int
	}{{"one", 1}, {"all", 3}} {
		for _, moment := range moments {
			t.Run(c.name+" "+moment, func(t *testing.T) {
				g := newGroup(t, 3, true)
				g.launch()
				g.members[0].proc.says(serveTimeout, moment)
				for _, m := range g.members[:c.victims] {
					m.proc.kill()
				}
				for _, m := range g.members[:c.victims] {
					m.launch()
				}
				g.serve()
				g.one()
			})
		}
	}
}

// A start that was interrupted before it agreed with anybody leaves a directory
// that a later start, even of another plan, can use.
func TestForming_abandoned(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, true)
	first := g.members[0]
	first.launch().says(serveTimeout, "found the first peers")
	first.proc.kill()
	alone := newGroup(t, 1, true)
	m := alone.members[0]
	if err := os.Rename(first.data, m.data); err != nil {
		t.Fatal(err)
	}
	m.launch()
	m.serves()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := m.dial().Put(ctx, "k", "v"); err != nil {
		t.Error(err)
	}
}
