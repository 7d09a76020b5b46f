package raftstore

import (
	"sync"

	"github.com/hashicorp/raft"
)

// commitPusher tells followers the commit index as soon as this leader knows
// it, in an append without entries that nobody answers.
//
// The library's follower commits min(LeaderCommitIndex, its last index) without
// looking whether its log is the leader's that far. So a push names as
// PrevLogEntry, which is checked, the last entry that follower acknowledged to
// this leader's term, and never a commit index beyond it.
//
// That leaves one danger: to tell a follower of term T an index that was
// agreed in a later term, when their logs may differ below it. A member learns
// such an index only from a later leader's message, or by leading itself. The
// first comes through this transport, which drops what it knows of earlier
// terms before raft sees the message (follow). In the second nothing was
// removed from the log that the follower acknowledged.
type commitPusher struct {
	// send queues a push to a follower, replacing one that has not left. It
	// must not block.
	send func(peer uint64, args *raft.AppendEntriesRequest) bool

	mu        sync.Mutex
	floor     uint64 // answers to appends of earlier terms are ignored
	commit    uint64
	followers map[uint64]*ackedBy
}

// ackedBy is what one follower acknowledged to one term's leader.
type ackedBy struct {
	header    raft.RPCHeader
	term      uint64 // of the leader
	index     uint64 // last entry acknowledged
	indexTerm uint64
	told      uint64 // commit index it has been told, by append or push
}

// push makes index known as agreed.
func (c *commitPusher) push(index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index <= c.commit {
		return
	}
	c.commit = index
	for id, f := range c.followers {
		c.tell(id, f)
	}
}

// tell pushes to a follower what it may know and was not told.
func (c *commitPusher) tell(id uint64, f *ackedBy) {
	commit := min(c.commit, f.index)
	if commit <= f.told {
		return
	}
	if c.send(id, &raft.AppendEntriesRequest{
		RPCHeader: f.header, Term: f.term,
		PrevLogEntry: f.index, PrevLogTerm: f.indexTerm, LeaderCommitIndex: commit,
	}) {
		f.told = commit
	}
}

// sent notes what an append about to be sent tells its follower.
func (c *commitPusher) sent(id uint64, args *raft.AppendEntriesRequest) {
	last, _ := lastOf(args)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.followers[id]; f != nil && f.term == args.Term {
		f.told = max(f.told, min(args.LeaderCommitIndex, last))
	}
}

// answered notes what a follower's answer to an append acknowledges.
func (c *commitPusher) answered(id uint64, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.followers[id]
	if err != nil || !resp.Success {
		if f != nil && f.term == args.Term {
			f.told = 0 // what it told may never have arrived
		}
		return
	}
	last, lastTerm := lastOf(args)
	if args.Term < c.floor || last == 0 {
		return
	}
	if f == nil || f.term < args.Term {
		f = &ackedBy{header: args.RPCHeader, term: args.Term}
		c.followers[id] = f
	}
	if f.term > args.Term || last < f.index {
		return
	}
	f.index, f.indexTerm = last, lastTerm
	c.tell(id, f)
}

// acked is the newest entry that a follower acknowledged, 0 if none is known.
func (c *commitPusher) acked(id uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.followers[id]; f != nil {
		return f.index
	}
	return 0
}

// follow is called before raft is given a message of a leader of that term:
// whatever was acknowledged to this member as leader of an earlier term may
// now leave its log.
func (c *commitPusher) follow(term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if term <= c.floor {
		return
	}
	c.floor = term
	for id, f := range c.followers {
		if f.term < term {
			delete(c.followers, id)
		}
	}
}

// lastOf is the entry up to which a follower that accepts args has this
// leader's log. A heartbeat says nothing about the log.
func lastOf(args *raft.AppendEntriesRequest) (index, term uint64) {
	if n := len(args.Entries); n > 0 {
		return args.Entries[n-1].Index, args.Entries[n-1].Term
	}
	return args.PrevLogEntry, args.PrevLogTerm
}
