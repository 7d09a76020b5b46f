package raftstore

import (
	"path/filepath"
	"sync"
	"testing"
)

// dueMachine counts how often replaying lets it write to its state file.
type dueMachine struct {
	*toyMachine
	asked int
}

func (m *dueMachine) CommitDue() error { m.asked++; return nil }

// Replaying a long log lets the Machine write what it queues as it goes.
func TestReplay_commitsInBetween(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	n := openLone(t, dir, &toyMachine{})
	term := lead(t, n)
	for range 8 { // an entry records what was agreed when it was proposed
		var work sync.WaitGroup
		for range replayBatch / 2 {
			work.Go(func() { propose(t, n, term, "x") })
		}
		work.Wait()
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	m := &dueMachine{toyMachine: &toyMachine{}}
	n = openLone(t, dir, m)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if m.asked < 3 {
		t.Fatalf("asked %d times over %d entries", m.asked, 4*replayBatch)
	}
}
