package raftstore

import (
	"context"
	"testing"
	"time"
)

// level has a leader and the others agree on a value.
func (s *simulation) level(t *testing.T) (lead *simRun, term uint64) {
	t.Helper()
	lead, term = s.leader(t)
	propose(t, lead.node, term, "x")
	s.have(t, s.runs(), "x")
	return lead, term
}

// removeInVain has a leader begin to remove a member, which is not agreed.
func (s *simulation) removeInVain(t *testing.T, lead *simRun, id uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), simElection/5)
	defer cancel()
	index, _ := lead.node.Membership()
	if _, err := lead.node.Change(ctx, index, Change{Op: OpRemove, ID: id}); err == nil {
		t.Fatal("it was agreed")
	}
}

// A voter votes for one that its newest membership, which was never agreed, does
// not have; otherwise no member could lead.
func TestNode_votesWhateverItsMembership(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		old, term := s.level(t)
		next, third := s.others(old)[0], s.others(old)[1]
		s.isolate(old.id)
		s.removeInVain(t, old, next.id)
		if lead := s.successor(t, old, term); lead != next {
			eventually(t, "a level voter", func() bool {
				return lead.node.MoveLeader(context.Background(), next.id) == nil
			})
		}
		eventually(t, "it leads", func() bool { term = next.node.openTerm.Load(); return next.node.Term() == term })
		propose(t, next.node, term, "y")
		s.isolate(next.id)
		eventually(t, "it leads no more", func() bool {
			now, _ := next.node.Leadership()
			return now.Leader != next.id
		})
		// An append of the term that it led may still be waiting for a connection, and
		// would take the entry away that this is about.
		if err := next.node.restart("a test", nil); err != nil {
			t.Fatal(err)
		}
		s.net.heal()
		s.isolate(third.id)
		s.net.reset(0, 0)
		lead := s.successor(t, old, term)
		if lead != next {
			t.Errorf("member %d leads without the newest entries", lead.id)
		}
		propose(t, lead.node, lead.node.Term(), "z")
	})
}

// A leader of four that was cut off while it removed itself, and one member is
// down: the other two lack the entry that it has.
func TestNode_leaderRemovedInItsOwnLog(t *testing.T) {
	directed(t, 4, func(t *testing.T, s *simulation) {
		old, term := s.level(t)
		down := s.others(old)[2]
		s.isolate(down.id)
		time.Sleep(simElection)
		s.isolate(old.id)
		s.removeInVain(t, old, old.id)
		time.Sleep(2 * simElection)
		s.net.heal()
		s.isolate(down.id)
		s.net.reset(0, 0)
		if lead := s.successor(t, down, term); lead == old {
			t.Error("a leader that its own log removes has opened a term")
		}
	})
}

// A follower is removed, and is the only one that gets the entry that says so
// before the leader is lost for good.
func TestNode_followerRemovedInItsOwnLog(t *testing.T) {
	directed(t, 4, func(t *testing.T, s *simulation) {
		old, term := s.level(t)
		out := s.others(old)[0]
		s.net.mu.Lock()
		s.net.filter = func(_, to uint64, raw []byte) bool {
			m := appendIn(raw)
			return to == out.id || m == nil || len(m.Entries) == 0
		}
		s.net.mu.Unlock()
		s.removeInVain(t, old, out.id)
		s.isolate(old.id)
		s.net.setFilter(nil)
		s.successor(t, old, term)
	})
}

// A candidate that stood at once keeps the leader that it heard of meanwhile.
func TestNode_candidateForgetsASilentLeader(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		old, term := s.level(t)
		behind, level := s.others(old)[0], s.others(old)[1]
		s.net.keepEntriesFrom(behind.id)
		propose(t, old.node, term, "y")
		s.have(t, []*simRun{level}, "y")
		// Its connection breaks for a moment: it stands, and nobody hears it.
		s.net.isolate(behind.id, old.id, level.id)
		behind.node.raft().transport.standForElection()
		time.Sleep(simElection / 50)
		// The other two take the next term as well.
		eventually(t, "transfer", func() bool { return old.node.MoveLeader(context.Background(), level.id) == nil })
		next := s.successor(t, old, term)
		if next != level || next.node.Term() != behind.node.Term() {
			t.Fatalf("member %d leads term %d", next.id, next.node.Term())
		}
		propose(t, next.node, next.node.Term(), "z")
		s.have(t, []*simRun{old}, "z")
		s.net.heal()
		eventually(t, "a heartbeat", func() bool { l, _ := behind.node.Leadership(); return l.Leader == next.id })
		s.isolate(next.id)
		s.net.setFilter(nil)
		if lead := s.successor(t, next, next.node.Term()); lead != old {
			t.Errorf("member %d leads without the newest entries", lead.id)
		}
	})
}
