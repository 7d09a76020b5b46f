package testcluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// A member lets clients in only when it is level: its log may end with entries
// that were acknowledged and of which no later entry says so, and a read from
// its own state must not go back behind what it answered before.
func TestMember_readyIsLevel(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	m := c.Members[0]
	for round := range 3 {
		for i := range 3 {
			if _, err := client(t, m.ClientURL).Put(within(t), "k", fmt.Sprint(round, i)); err != nil {
				t.Fatal(err)
			}
		}
		before, _, err := m.Daemon.HashKV()
		if err != nil {
			t.Fatal(err)
		}
		m.Stop()
		// The state file is behind after a crash; here as far as it can be.
		if err := os.Remove(filepath.Join(m.Dir, "member", "snap", "db")); err != nil {
			t.Fatal(err)
		}
		m.Launch()
		m.AwaitReady()
		after, _, err := m.Daemon.HashKV()
		if err != nil {
			t.Fatal(err)
		}
		if after < before {
			t.Fatalf("clients are let in at revision %d, and saw %d before", after, before)
		}
	}
}
