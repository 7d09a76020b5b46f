package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Bounds of what one peer may have waiting for raft, in messages and bytes. A
// peer's pipeline holds itself to less, so that only a raft that does not run
// fills an inbox.
const (
	inboxMessages = 256
	inboxBytes    = maxPayload + 2*pipelineBytes
	// staleAfter is when nobody waits for the answer any longer.
	staleAfter = appendTimeout
)

// inbox is what one peer asks of raft. One goroutine feeds it to raft in order
// without waiting for answers, two send the answers in order: those that say
// that entries are stored wait for the disk, the others, heartbeats among them,
// do not wait behind them.
type inbox struct {
	transport *Transport
	peer      uint64
	queue     chan arrival
	stored    chan owedAnswer
	answers   chan owedAnswer
	bytes     atomic.Int64
}

type arrival struct {
	frame
	at time.Time
}

type owedAnswer struct {
	id    uint64
	size  int
	vote  uint64 // the term in which a vote is asked for, 0 for none
	reply <-chan raft.RPCResponse
}

// receiveRaft takes a frame for raft. It does not block.
func (m *Mesh) receiveRaft(r *remote, f frame) {
	switch f.kind {
	case kindSnapshot, kindSnapshotChunk, kindSnapshotEnd:
		m.receiveSnapshot(r, f) // beside raft
		return
	}
	t := m.raft.Load()
	if t == nil {
		r.refuseRequest(f, CodeNoHandler, "raft does not run here")
		return
	}
	in := t.inboxOf(r.id)
	if in == nil {
		r.refuseRequest(f, CodeClosed, "raft takes no messages of this member")
		return
	}
	size := int64(len(f.payload))
	if in.bytes.Add(size) > inboxBytes {
		in.bytes.Add(-size)
		r.refuseRequest(f, CodeBusy, "raft takes no messages")
		return
	}
	select {
	case in.queue <- arrival{f, time.Now()}:
	default:
		in.bytes.Add(-size)
		r.refuseRequest(f, CodeBusy, "raft takes no messages")
	}
}

// inboxOf finds or makes a peer's inbox; nil after Close, or when there are as
// many as a mesh remembers members.
func (t *Transport) inboxOf(peer uint64) *inbox {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	in, ok := t.inbox[peer]
	if !ok && len(t.inbox) >= maxRemotes {
		return nil
	}
	if !ok {
		in = &inbox{
			transport: t,
			peer:      peer,
			queue:     make(chan arrival, inboxMessages),
			stored:    make(chan owedAnswer, inboxMessages),
			answers:   make(chan owedAnswer, inboxMessages),
		}
		t.inbox[peer] = in
		t.wg.Go(in.feed)
		t.wg.Go(func() { in.respond(in.stored, func() error { return t.local.Flush(t.done) }) })
		t.wg.Go(func() { in.respond(in.answers, func() error { return nil }) })
	}
	return in
}

// feed hands messages to raft.
func (in *inbox) feed() {
	t := in.transport
	for {
		var a arrival
		select {
		case a = <-in.queue:
		case <-t.done:
			return
		}
		reply := make(chan raft.RPCResponse, 1)
		rpc, err := in.open(a)
		if err == nil {
			rpc.RespChan = reply
			select {
			case t.consumer <- rpc:
			case <-t.done:
				return
			}
		} else {
			reply <- raft.RPCResponse{Error: err}
		}
		if a.typ != frameRequest {
			in.bytes.Add(-int64(len(a.payload)))
			continue
		}
		answers := in.answers
		if stores(rpc.Command) {
			answers = in.stored
		}
		select {
		case answers <- owedAnswer{a.id, len(a.payload), voteTerm(rpc.Command), reply}:
		case <-t.done:
			return
		}
	}
}

var errStale = errors.New("raftstore: raft was busy for too long")

// open decodes a message, and refuses one that is late or not the peer's own.
func (in *inbox) open(a arrival) (raft.RPC, error) {
	if time.Since(a.at) > staleAfter {
		return raft.RPC{}, errStale
	}
	command, err := decodeRequest(a.kind, a.payload)
	if err != nil {
		return raft.RPC{}, err
	}
	from := command.(raft.WithRPCHeader).GetRPCHeader()
	if string(from.ID) != memberText(in.peer) {
		return raft.RPC{}, fmt.Errorf("raftstore: member %x speaks for %q", in.peer, from.ID)
	}
	switch c := command.(type) {
	case *raft.AppendEntriesRequest:
		in.transport.commits.follow(c.Term)
		// Raft looks for the entry before those it is given, and for each of them, in
		// its log, and what was installed or cut off is not there. A leader that lost
		// answers would be told no for ever: it goes back entry by entry, and sends
		// its state only where its own log has no older ones, or has nothing older
		// than its state, which may not get newer without this member. What is agreed
		// is the same in the log of every leader of this term, so that there is nothing
		// to compare, and nothing to store.
		if begin := in.transport.local.Begin(); c.PrevLogEntry < begin {
			c.PrevLogEntry, c.PrevLogTerm = 0, 0
			c.Entries = slices.DeleteFunc(c.Entries, func(e *raft.Log) bool { return e.Index < begin })
		}
	// Raft refuses to vote while it knows a leader, until its own, randomly
	// longer, timer ends: an election would take the longest of the followers'
	// timers instead of the shortest. A pre-vote passes that check by carrying the
	// leader's own address, which is used for nothing else, and a vote by the mark
	// of a leader's transfer.
	//
	// It also refuses who is no voter of the newest membership that it has, which
	// may not be agreed, or older than the one that is: then no member could be
	// elected at all. The algorithm has members vote whatever they know of the
	// membership (section 4.1 of Ongaro's dissertation). A pre-vote passes that check
	// by the id of a voter, a vote by none. The mesh refuses those whose removal
	// is agreed. All other rules of voting stay raft's.
	case *raft.RequestPreVoteRequest:
		// Whose disk hangs could not keep the promise, and two candidates might be
		// promised a majority.
		if err := in.transport.mesh.maySend(kindPreVote); err != nil {
			return raft.RPC{}, err
		}
		if err := in.transport.campaign.mayPromise(in.peer); err != nil {
			return raft.RPC{}, err
		}
		if leader := in.transport.local.SilentLeader(); leader != "" {
			c.Addr = []byte(leader)
		}
		if voter := in.transport.local.Voter(string(c.ID)); voter != "" {
			c.ID = []byte(voter)
		}
	case *raft.RequestVoteRequest:
		c.ID = nil
		c.LeadershipTransfer = c.LeadershipTransfer || in.transport.local.SilentLeader() != ""
	}
	return raft.RPC{Command: command}, nil
}

// voteTerm is the term in which a message asks for a vote, 0 if it does not.
func voteTerm(command any) uint64 {
	if args, ok := command.(*raft.RequestVoteRequest); ok {
		return args.Term
	}
	return 0
}

// stores reports whether the answer to a message says that something of it is
// in the log.
func stores(command any) bool {
	args, ok := command.(*raft.AppendEntriesRequest)
	return ok && len(args.Entries) > 0
}

// respond sends raft's answers, each when it is settled.
func (in *inbox) respond(answers <-chan owedAnswer, settled func() error) {
	t := in.transport
	for {
		var owed owedAnswer
		select {
		case owed = <-answers:
		case <-t.done:
			return
		}
		select {
		case reply := <-owed.reply:
			if settled() != nil {
				return // nothing is answered any more
			}
			t.campaign.noteReply(reply)
			if r, ok := reply.Response.(*raft.RequestVoteResponse); ok && !r.Granted && r.Term == owed.vote {
				t.local.Refused(in.peer, r.Term)
			}
			in.bytes.Add(-int64(owed.size))
			if r := t.mesh.known(in.peer); r != nil {
				r.sendAnswer(laneUrgent, replyFrame(owed.id, reply))
			}
		case <-t.done:
			return
		}
	}
}

func replyFrame(id uint64, reply raft.RPCResponse) *outFrame {
	if reply.Error != nil {
		return failure(id, asCallError(reply.Error))
	}
	f := newOutFrame(frameResponse, id, 0, 0, 128)
	var err error
	if f.b, err = encodeReply(f.b, reply.Response); err != nil {
		f.release()
		return failure(id, asCallError(err))
	}
	if f.seal() != nil {
		return nil
	}
	return f
}
