package raftstore

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/raft"
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

// A leader that is stopped in good order has another one lead before its
// connections end, in the next term.
func TestNode_closeWaitsForTheNextLeader(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, term := s.leader(t)
		propose(t, lead.node, term, "x")
		s.have(t, s.runs(), "x")
		began := time.Now()
		if err := lead.node.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > simElection/2 {
			t.Errorf("closed after %v", took)
		}
		others := s.others(lead)
		if now := max(others[0].node.Term(), others[1].node.Term()); now != term+1 {
			t.Errorf("the newest term is %d after term %d", now, term)
		}
		next := s.successor(t, lead, term)
		propose(t, next.node, term+1, "by the next")
		if took := time.Since(began); took > simElection/2 {
			t.Errorf("agreed after %v", took)
		}
	})
}

// The leader of two members that is told to remove itself while it is cut off
// leaves no log behind that nobody can lead.
func TestNode_leaderOfTwoRemovesItself(t *testing.T) {
	directed(t, 2, func(t *testing.T, s *simulation) {
		lead, term := s.leader(t)
		propose(t, lead.node, term, "x")
		s.isolate(lead.id)
		ctx, cancel := context.WithTimeout(context.Background(), simElection/5)
		defer cancel()
		index, _ := lead.node.Membership()
		_, err := lead.node.Change(ctx, index, Change{Op: OpRemove, ID: lead.id})
		if err == nil {
			t.Error("agreed by one of two")
		}
		time.Sleep(2 * simElection)
		s.net.heal()
		s.net.reset(0, 0)
		lead, term = s.leader(t)
		propose(t, lead.node, term, "y")
	})
}

// A heartbeat waits its turn behind what came before it, whatever raft offers
// to answer it beside its main loop (hashicorp/raft issue 695).
func TestTransport_heartbeatsWaitTheirTurn(t *testing.T) {
	_, a, b := transportPair(t)
	b.SetHeartbeatHandler(func(rpc raft.RPC) {
		t.Error("a heartbeat went past raft's main loop")
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	p, err := a.AppendEntriesPipeline(peer2, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.AppendEntries(entry(1), &raft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
	first := receiveRPC(t, b)
	answered := make(chan error, 1)
	go func() {
		heartbeat := &raft.AppendEntriesRequest{RPCHeader: testHeader, Term: 1}
		answered <- a.AppendEntries(peer2, "", heartbeat, &raft.AppendEntriesResponse{})
	}()
	second := receiveRPC(t, b)
	if got := second.Command.(*raft.AppendEntriesRequest); len(got.Entries) != 0 {
		t.Fatalf("second came %+v", got)
	}
	first.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
	second.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}
