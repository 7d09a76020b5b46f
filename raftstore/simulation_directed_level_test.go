package raftstore

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// A follower that lacks many entries gets them soon, also when no new ones come and
// an append to it was lost: raft then goes on with a pipeline, which by itself sends
// 16 entries in a quarter of an election timeout or longer.
func TestNode_followerIsLevelSoon(t *testing.T) {
	const entries = 3000
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, term := s.leader(t)
		propose(t, lead.node, term, "before")
		s.have(t, s.runs(), "before")
		late := s.others(lead)[0]
		s.isolate(late.id)
		var work sync.WaitGroup
		for w := range 10 {
			work.Go(func() {
				for i := range entries / 10 {
					propose(t, lead.node, term, fmt.Sprintf("%d of %d", i, w))
				}
			})
		}
		work.Wait()
		propose(t, lead.node, term, "last")
		// The third append with entries that reaches the follower is lost.
		seen := 0
		s.net.mu.Lock()
		s.net.filter = func(_, to uint64, raw []byte) bool {
			m := appendIn(raw)
			if to != late.id || m == nil || len(m.Entries) == 0 {
				return true
			}
			seen++
			return seen != 3
		}
		s.net.mu.Unlock()
		s.net.heal()
		began := time.Now()
		s.have(t, []*simRun{late}, "last")
		took := time.Since(began)
		s.net.mu.Lock()
		defer s.net.mu.Unlock()
		t.Logf("level after %v and %d appends with entries", took, seen)
		if seen < 4 {
			t.Fatal("no append was lost: this shows nothing")
		}
		if most := appendTimeout + 10*simElection; took > most {
			t.Errorf("level after %v, and %v are allowed", took, most)
		}
	})
}
