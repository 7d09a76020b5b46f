package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
)

// pushLog is a commitPusher whose pushes are written down.
type pushLog struct {
	commitPusher
	full   bool // the follower's slot cannot be reached
	pushes []string
}

func newPushLog() *pushLog {
	p := &pushLog{}
	p.commitPusher = commitPusher{followers: map[uint64]*ackedBy{}, send: func(peer uint64, a *raft.AppendEntriesRequest) bool {
		if p.full {
			return false
		}
		p.pushes = append(p.pushes, fmt.Sprintf("to %d: term %d, after %d of term %d, commit %d",
			peer, a.Term, a.PrevLogEntry, a.PrevLogTerm, a.LeaderCommitIndex))
		return true
	}}
	return p
}

// acks has peer acknowledge an append of the entries (prev, last], all of the
// leader's term, that said commit.
func (p *pushLog) acks(peer, term, prev, last, commit uint64) {
	args := appendOf(term, prev, last, commit)
	p.sent(peer, args)
	p.answered(peer, args, &raft.AppendEntriesResponse{Term: term, Success: true}, nil)
}

func appendOf(term, prev, last, commit uint64) *raft.AppendEntriesRequest {
	args := &raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev, PrevLogTerm: term, LeaderCommitIndex: commit}
	if prev == 0 {
		args.PrevLogTerm = 0
	}
	for i := prev + 1; i <= last; i++ {
		args.Entries = append(args.Entries, &raft.Log{Index: i, Term: term})
	}
	return args
}

func (p *pushLog) want(t *testing.T, pushes ...string) {
	t.Helper()
	if !slices.Equal(p.pushes, pushes) {
		t.Errorf("pushed %q, want %q", p.pushes, pushes)
	}
	p.pushes = nil
}

func TestCommitPusher_pushesUpToAcked(t *testing.T) {
	p := newPushLog()
	p.push(3)
	p.want(t) // nobody has acknowledged anything
	p.acks(2, 5, 0, 10, 0)
	p.want(t, "to 2: term 5, after 10 of term 5, commit 3")
	p.push(8)
	p.want(t, "to 2: term 5, after 10 of term 5, commit 8")
	p.push(8)
	p.push(7)
	p.want(t) // nothing new
	p.push(12)
	p.want(t, "to 2: term 5, after 10 of term 5, commit 10")
	p.acks(2, 5, 10, 11, 8)
	p.want(t, "to 2: term 5, after 11 of term 5, commit 11")
	p.acks(2, 5, 11, 12, 12)
	p.want(t) // that append said so itself
}

func TestCommitPusher_heartbeatsAcknowledgeNothing(t *testing.T) {
	p := newPushLog()
	p.acks(2, 5, 0, 0, 0)
	p.push(4)
	p.want(t)
	p.acks(2, 5, 4, 4, 0) // an append without entries vouches for the one before
	p.want(t, "to 2: term 5, after 4 of term 5, commit 4")
}

func TestCommitPusher_failedAppendToldNothing(t *testing.T) {
	p := newPushLog()
	p.acks(2, 5, 0, 10, 0)
	p.sent(2, appendOf(5, 10, 11, 10))
	p.push(10)
	p.want(t) // the append under way says it
	p.answered(2, appendOf(5, 10, 11, 10), &raft.AppendEntriesResponse{}, errors.New("lost"))
	p.push(11)
	p.want(t, "to 2: term 5, after 10 of term 5, commit 10")
}

func TestCommitPusher_unsentIsPushedAgain(t *testing.T) {
	p := newPushLog()
	p.full = true
	p.acks(2, 5, 0, 10, 0)
	p.push(4)
	p.full = false
	p.push(5)
	p.want(t, "to 2: term 5, after 10 of term 5, commit 5")
}

func TestCommitPusher_newTermForgets(t *testing.T) {
	p := newPushLog()
	p.acks(2, 5, 0, 10, 0)
	p.acks(2, 7, 3, 4, 0) // leader again; the follower's 5..10 may be gone
	p.push(9)
	p.want(t, "to 2: term 7, after 4 of term 7, commit 4")
	p.acks(2, 5, 10, 20, 0) // an answer from then
	p.want(t)
}

// A deposed leader's followers of then may hold other entries below an index
// that a later leader says is agreed.
func TestCommitPusher_followerPushesNothing(t *testing.T) {
	p := newPushLog()
	p.acks(2, 5, 0, 10, 0)
	p.follow(6)
	p.push(8)
	p.want(t)
	p.acks(2, 5, 10, 11, 0) // a late answer
	p.push(9)
	p.want(t)
	p.acks(2, 6, 0, 11, 0)
	p.want(t, "to 2: term 6, after 11 of term 6, commit 9")
}

func TestBoundAppend_bytesAndCommit(t *testing.T) {
	args := appendOf(5, 10, 14, 100)
	for _, e := range args.Entries {
		e.Data = make([]byte, appendBytes/2)
	}
	(&Transport{local: allDurable{}}).boundAppend(args)
	if len(args.Entries) != 1 || args.LeaderCommitIndex != 11 {
		t.Errorf("%d entries, commit %d", len(args.Entries), args.LeaderCommitIndex)
	}
	args = appendOf(5, 10, 14, 12)
	(&Transport{local: allDurable{}}).boundAppend(args)
	if len(args.Entries) != 4 || args.LeaderCommitIndex != 12 {
		t.Errorf("%d entries, commit %d", len(args.Entries), args.LeaderCommitIndex)
	}
	args = appendOf(5, 10, 11, 0)
	args.Entries[0].Data = make([]byte, 2*appendBytes)
	(&Transport{local: allDurable{}}).boundAppend(args)
	if len(args.Entries) != 1 {
		t.Error("an entry larger than the bound is never sent")
	}
}
