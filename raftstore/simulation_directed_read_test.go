package raftstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"
)

// late has every frame to a member arrive late, in order.
func (n *faultNet) late(to uint64, by time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = func(from, at uint64, raw []byte) bool {
		if at != to {
			return true
		}
		inject, again := n.latest[[2]uint64{from, at}], slices.Clone(raw)
		if inject == nil {
			return true
		}
		time.AfterFunc(by, func() { inject(again) })
		return false
	}
}

// Answers to messages that were sent before a read began do not confirm it: they
// are on their way while the members that sent them elect another leader. Raft's
// own VerifyLeader counts them.
func TestNode_oldAnswersConfirmNothing(t *testing.T) {
	reads := 0
	for attempt := range uint64(12) {
		directedWith(t, schedule{seed: attempt, members: 3}, func(t *testing.T, s *simulation) {
			old, term := s.leader(t)
			propose(t, old.node, term, "before")
			s.have(t, s.runs(), "before")
			defer old.proposeOn(term)()
			for by := range 9 { // slowly, as the leader must go on hearing
				s.net.late(old.id, time.Duration(by)*simElection/10)
				time.Sleep(simElection / 5)
			}
			for _, run := range s.others(old) {
				s.net.set(old.id, run.id, linkFault{cut: true})
			}
			next := s.successor(t, old, term)
			lead, _ := next.node.Leadership()
			propose(t, next.node, lead.Term, "acknowledged")
			if now, _ := old.node.Leadership(); now.Leader != old.id {
				return // too late for this attempt
			}
			ctx, cancel := context.WithTimeout(context.Background(), simElection)
			defer cancel()
			if reads++; old.node.ReadIndex(ctx) == nil && !old.machine.has("acknowledged") {
				t.Error("stale read")
			}
		})
	}
	if reads == 0 {
		t.Fatal("the old leader never took itself for one, and this shows nothing")
	}
	t.Logf("%d reads", reads)
}

// successor waits for another leader whose term is open.
func (s *simulation) successor(t *testing.T, old *simRun, term uint64) (next *simRun) {
	t.Helper()
	eventually(t, "another leader", func() bool {
		for _, run := range s.others(old) {
			now, _ := run.node.Leadership()
			if now.Leader == run.id && now.Term > term && run.node.openTerm.Load() == now.Term {
				next = run
			}
		}
		return next != nil
	})
	return next
}

// proposeOn proposes in short intervals without waiting for the answers, until
// the end of it.
func (r *simRun) proposeOn(term uint64) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			r.clients.Go(func() { _ = r.node.Propose(ctx, term, fmt.Append(nil, "on ", i)) })
			pause(ctx, simElection/20)
		}
	}()
	return func() { cancel(); <-done }
}

// Who asks the leader for an index is one of those who confirm its term, if it is
// a voter and says that the term is its own: no third member is needed. The
// leader's own reads need an answer.
func TestNode_askerConfirms(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, term := s.leader(t)
		asker := s.others(lead)[0]
		s.net.confirmations(func(uint64) bool { return false })
		try := func(read func(ctx context.Context) error) error {
			ctx, cancel := context.WithTimeout(context.Background(), 2*simElection)
			defer cancel()
			return read(ctx)
		}
		if err := try(asker.node.ReadIndex); err != nil {
			t.Errorf("a follower reads: %v", err)
		}
		if try(lead.node.ReadIndex) == nil {
			t.Error("the leader reads though nobody has confirmed its term")
		}
		for _, claim := range [][]byte{nil, confirmation(term - 1), confirmation(term + 1)} {
			if try(func(ctx context.Context) error {
				_, err := asker.node.cfg.Mesh.Call(ctx, lead.id, KindReadIndex, claim)
				return err
			}) == nil {
				t.Errorf("confirmed by who says %x", claim)
			}
		}
	})
}

// confirmations has keep decide which questions of KindConfirm arrive, by whom
// they are for.
func (n *faultNet) confirmations(keep func(to uint64) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = func(_, to uint64, raw []byte) bool {
		return frameType(raw[4]) != frameRequest || Kind(binary.BigEndian.Uint32(raw[13:])) != KindConfirm || keep(to)
	}
}

// A leader asks one follower of two. When that one does not answer it asks the
// other a moment later, and that one first from then on.
func TestNode_asksWhoAnswers(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, _ := s.leader(t)
		asked := map[uint64]int{}
		var silent uint64
		s.net.confirmations(func(to uint64) bool {
			asked[to]++
			if silent == 0 {
				silent = to
			}
			return to != silent
		})
		for i, most := range []time.Duration{simElection / 50, 0, 0} {
			began := time.Now()
			if err := lead.node.ReadIndex(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > most {
				t.Errorf("read %d took %v", i, took)
			}
		}
		s.net.mu.Lock()
		defer s.net.mu.Unlock()
		if asked[silent] != 1 || len(asked) != 2 {
			t.Errorf("asked by member: %v, and %d does not answer", asked, silent)
		}
	})
}
