package raftstore

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// A batch that was not applied because raft is being stopped is not followed by
// one that is: the next instance would take both for applied.
func TestApplier_stopLeavesNoGap(t *testing.T) {
	machine := &toyMachine{}
	quit := make(chan struct{})
	logs := &logStore{}
	logs.last.Store(4)
	logs.durable.Store(2)
	a := &applier{
		machine:   machine,
		durable:   func(index uint64) error { return logs.AwaitDurable(index, quit) },
		committed: func(uint64) {},
		log:       zerolog.Nop(),
	}
	close(quit)
	a.ApplyBatch([]*raft.Log{{Index: 3, Term: 1, Data: []byte("3")}}) // of a log that is durable up to 2
	logs.durable.Store(4)                                             // the write that was under way is done
	a.ApplyBatch([]*raft.Log{{Index: 4, Term: 1, Data: []byte("4")}})
	if machine.Applied() != 0 {
		t.Fatalf("applied up to %d, and entry 3 is missing", machine.Applied())
	}
}

// The same, where raft is stopped at the moment at which a write ends that many
// batches have waited for. Who holds the log's lock meanwhile makes that moment long.
func TestNode_stopAtTheEndOfAWrite(t *testing.T) {
	const batches = 40
	for round := range 50 {
		directed(t, 3, func(t *testing.T, s *simulation) {
			lead, term := s.leader(t)
			far := s.others(lead)[0]
			propose(t, lead.node, term, "x")
			s.have(t, s.runs(), "x")
			time.Sleep(simElection)
			disk, logs := far.disk, far.node.logs
			disk.mu.Lock()
			disk.delay = 0
			disk.mu.Unlock()
			disk.hang()
			propose(t, lead.node, term, "first") // is being written alone
			time.Sleep(20 * time.Millisecond)
			for i := range batches { // will be written as one group, and are agreed one by one
				propose(t, lead.node, term, fmt.Sprint("n", i))
			}
			time.Sleep(20 * time.Millisecond)
			again := func() (hung chan struct{}) {
				disk.mu.Lock()
				defer disk.mu.Unlock()
				hung, disk.hung = disk.hung, make(chan struct{})
				return hung
			}
			close(again())
			s.have(t, []*simRun{far}, "first") // the next group is being written
			logs.mu.Lock()
			disk.mu.Lock()
			close(disk.hung)
			disk.hung = nil
			disk.mu.Unlock()
			for range 2000 {
				runtime.Gosched()
			}
			restarted := make(chan error)
			go func() { restarted <- far.node.restart("a test", nil) }()
			for range 2000 {
				runtime.Gosched()
			}
			logs.mu.Unlock()
			if err := <-restarted; err != nil {
				t.Fatal(err)
			}
			propose(t, lead.node, term, "last")
			s.have(t, []*simRun{far}, "last")
			var missing []int
			for i := range batches {
				if !far.machine.has(fmt.Sprint("n", i)) {
					missing = append(missing, i)
				}
			}
			if missing != nil {
				t.Errorf("round %d: a member has applied the last entry, and of those before it never %v", round, missing)
			}
		})
		if t.Failed() {
			return
		}
	}
}
