package raftstore

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// Reads that come while the node closes, or later, end with ErrStopped or an
// answer, and leave no goroutine behind that Close did not wait for.
func TestNode_readsWhileClosing(t *testing.T) {
	n := openLone(t, t.TempDir(), &toyMachine{})
	lead(t, n)
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for {
				err := n.ReadIndex(context.Background())
				if errors.Is(err, ErrStopped) || errors.Is(err, context.Canceled) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	readers.Wait()
	n.reads.mu.Lock()
	defer n.reads.mu.Unlock()
	if round := n.reads; round.active || round.next != nil {
		t.Fatal("a round goes on after Close")
	}
}
