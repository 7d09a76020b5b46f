package raftstore

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// A leader that falls silent is replaced when the first follower notices, after
// 0.87 election timeouts in the mean. When the others hold on to it until their
// own timers end, it takes 1.5.
func TestNode_silentLeaderIsReplacedByTheFirstToNotice(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		const rounds = 40
		var total time.Duration
		for range rounds {
			old, term := s.leader(t)
			began := time.Now()
			s.isolate(old.id)
			s.successor(t, old, term)
			total += time.Since(began)
			s.net.heal()
			eventually(t, "the old leader follows", func() bool {
				now, _ := old.node.Leadership()
				return now.Leader != 0 && now.Leader != old.id && old.node.Term() == now.Term
			})
			time.Sleep(simElection) // in the bubble: heartbeats reach everybody again
		}
		if mean := total / rounds; mean > simElection*11/10 {
			t.Fatalf("a silent leader is replaced after %v in the mean", mean)
		}
	})
}

// No read waits for a disk: neither its own, nor those of the voters that
// confirm it, nor for entries that are being written meanwhile.
func TestNode_readsDoNotWaitForTheDisk(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, term := s.leader(t)
		propose(t, lead.node, term, "before")
		s.have(t, s.runs(), "before")
		const slow = 200 * time.Millisecond
		for _, run := range s.runs() {
			run.disk.mu.Lock()
			run.disk.delay = slow
			run.disk.mu.Unlock()
		}
		ctx, stop := context.WithCancel(t.Context())
		written := make(chan struct{})
		go func() {
			defer close(written)
			for i := 0; ctx.Err() == nil; i++ {
				_ = lead.node.Propose(ctx, term, fmt.Append(nil, i))
			}
		}()
		for range 20 {
			for _, run := range s.runs() {
				began := time.Now()
				if err := run.node.ReadIndex(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > slow/10 {
					t.Fatalf("a read on member %d took %v", run.id, took)
				}
			}
			time.Sleep(7 * time.Millisecond) // in the bubble
		}
		stop()
		<-written
	})
}
