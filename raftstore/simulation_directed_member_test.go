package raftstore

import (
	"context"
	"testing"
	"time"
)

// A member believes that it was removed when a majority of the others says so;
// one of them may be wrong, or of a membership that never was agreed.
func TestNode_goneByAMajority(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, _ := s.leader(t)
		others := s.others(lead)
		out, other := others[0], others[1]
		removed := func(id uint64) bool { return id == out.id }
		// other no longer has it among its peers, and says why.
		other.mesh.KnowRemoved(removed)
		other.mesh.SetPeers(memPeers(other.id, lead.id))
		s.net.reset(out.id, other.id)
		time.Sleep(10 * simElection)
		if status := statusOf(out.mesh, other.id); status.LastError == nil {
			t.Fatal("nobody said that it was removed, and this shows nothing")
		}
		select {
		case <-out.node.Gone():
			t.Fatal("one voice of two was enough")
		default:
		}
		s.isolate(out.id)
		lead, _ = s.leader(t)
		index, _ := lead.node.Membership()
		if _, err := lead.node.Change(context.Background(), index, Change{Op: OpRemove, ID: out.id}); err != nil {
			t.Fatal(err)
		}
		lead.mesh.KnowRemoved(removed)
		s.net.heal()
		s.net.reset(out.id, 0)
		select {
		case <-out.node.Gone():
		case <-time.After(simRecovery):
			t.Fatal("all others say that it was removed, and it does not believe it")
		}
	})
}
