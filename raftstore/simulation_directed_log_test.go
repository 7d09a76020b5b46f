package raftstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// try proposes and waits for an answer as long as the leader may be without its
// followers.
func (r *simRun) try(term uint64, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), simElection/5)
	defer cancel()
	return r.node.Propose(ctx, term, []byte(value))
}

// An append is answered when it is on the follower's disk: the leader counts
// the answer.
func TestNode_followerAnswersWhatItHasOnDisk(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, term := s.leader(t)
		s.have(t, s.runs(), fmt.Sprintf("open %d by %d", term, lead.id))
		others := s.others(lead)
		s.isolate(others[0].id)
		others[1].disk.hang()
		defer others[1].disk.release()
		if err := lead.try(term, "x"); !errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("agreed on one disk: %v", err)
		}
	})
}

// hungLeader has a leader whose disk hangs propose what its followers take.
func hungLeader(t *testing.T, s *simulation) (lead *simRun, index uint64) {
	lead, term := s.leader(t)
	propose(t, lead.node, term, "before")
	s.have(t, s.runs(), "before")
	lead.disk.hang()
	if err := lead.try(term, "x"); !errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("the leader acknowledged what it has in memory only: %v", err)
	}
	synctest.Wait()
	index = lead.node.LastIndex()
	for _, run := range s.others(lead) {
		if run.node.LastIndex() < index {
			t.Fatal("the followers do not have the entry, and this shows nothing")
		}
	}
	return lead, index
}

// Raft counts an entry of the leader as soon as it is stored, when it may be in
// memory only. It is not applied, nor told to anybody, nor counted by reads, and
// no entry records it as agreed, before it is on the leader's disk.
func TestNode_leaderTellsWhatItHasOnDisk(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, index := hungLeader(t, s)
		if lead.node.raft().CommitIndex() < index {
			t.Fatal("raft does not count the entry, and this shows nothing")
		}
		if got := lead.node.CommitIndex(); got >= index {
			t.Errorf("commit index %d, and entry %d is in memory only", got, index)
		}
		if lead.machine.has("x") {
			t.Error("applied, and in memory only")
		}
		for _, run := range s.others(lead) {
			if run.machine.has("x") {
				t.Errorf("member %d was told", run.id)
			}
		}
		lead.disk.release()
		s.have(t, s.runs(), "x")
	})
}

// A leader whose disk hangs is replaced: it would go on with its heartbeats, and
// nothing would be agreed (hashicorp/raft issue 503). When its disk is back, it
// follows.
func TestNode_hungLeaderIsReplaced(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, _ := hungLeader(t, s)
		old, _ := lead.node.Leadership()
		began := time.Now()
		next := s.successor(t, lead, old.Term)
		if took := time.Since(began); took > 3*simElection {
			t.Errorf("another leader after %v", took)
		}
		now, _ := next.node.Leadership()
		propose(t, next.node, now.Term, "by the next")
		lead.disk.release()
		s.have(t, s.runs(), "by the next")
	})
}

// What Open replays is ahead of what raft has applied since. Raft reads it
// again, so that it must stay in the log although the state file has it.
func TestNode_replayedIsNotTruncated(t *testing.T) {
	directedWith(t, schedule{seed: 1, members: 3, installs: true}, func(t *testing.T, s *simulation) {
		lead, term := s.leader(t)
		for i := range 3 * simTruncate {
			propose(t, lead.node, term, fmt.Sprint(i))
		}
		s.have(t, s.runs(), fmt.Sprint(3*simTruncate-1))
		for _, run := range s.runs() {
			s.crash(run, false)
		}
		s.start(1)
		alone := s.runs()[0]
		if !alone.machine.has("1") {
			t.Fatal("nothing was replayed")
		}
		alone.machine.commit()
		time.Sleep(3 * truncateEvery)
		s.start(2)
		s.start(3)
		lead, term = s.leader(t)
		propose(t, lead.node, term, "after")
		s.have(t, s.runs(), "after")
	})
}
