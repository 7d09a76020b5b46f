package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Kinds of frames that carry raft's messages.
const (
	kindAppend Kind = raftKinds + iota
	kindCommit
	kindVote
	kindPreVote
	kindTimeoutNow
	kindSnapshot
	kindSnapshotChunk
	kindSnapshotEnd
)

const (
	// appendTimeout bounds an append with entries, from sending to answer.
	appendTimeout = 5 * time.Second
	// appendBytes bounds the entries of one append; one may always be sent.
	appendBytes = 4 << 20
)

var errTransportClosed = errors.New("raftstore: transport is closed")

// Transport is a raft.Transport on a Mesh. It serves one raft instance; a mesh
// gives arriving messages to the transport made last.
//
// Raft's addresses are member ids in text. There is no fast path for
// heartbeats: every message goes through Consumer, in the order in which it
// came from its sender.
type Transport struct {
	mesh     *Mesh
	local    replica
	consumer chan raft.RPC
	commits  commitPusher
	campaign campaign
	done     chan struct{}
	leaving  chan struct{} // closed by abandon
	wg       sync.WaitGroup

	mu     sync.Mutex
	closed bool
	inbox  map[uint64]*inbox
	left   bool // leaving is closed
}

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

// replica is this member as its transport sees it: raft is told that entries
// are stored before they are on stable storage, peers are not.
type replica interface {
	// Durable is the newest index on stable storage.
	Durable() uint64
	// Flush returns when everything stored before the call is there; with an
	// error after a failed write, or when quit is closed.
	Flush(quit <-chan struct{}) error
	// Begin is the index of the first entry of the log, or of the next one if it has
	// none. Everything before it is agreed, and on stable storage in the state.
	Begin() uint64
	// Term is the newest term seen.
	Term() uint64
	// SilentLeader names the leader that raft still holds to although it was not
	// heard of for so long that another member may look for a new one; empty when
	// there is none.
	SilentLeader() raft.ServerAddress
	// Voter is wanted if that is a voter of the newest membership here, otherwise
	// another one, empty where none is known.
	Voter(wanted string) string
	// Refused is told of a candidate that this member did not vote for in a term.
	Refused(candidate, term uint64)
}

// Transport makes the transport for a new raft instance, which sends, and serves
// what arrives from serve on.
func (m *Mesh) Transport(local replica) *Transport {
	t := &Transport{
		mesh:     m,
		local:    local,
		consumer: make(chan raft.RPC),
		done:     make(chan struct{}),
		inbox:    map[uint64]*inbox{},
		leaving:  make(chan struct{}),
		campaign: campaign{self: m.cfg.Self, window: m.cfg.ElectionTimeout / campaignShare},
	}
	t.commits = commitPusher{send: t.sendCommit, followers: map[uint64]*ackedBy{}}
	return t
}

// serve has raft answer what arrives. From then on whoever is asked for this member's
// term must read that of the same instance: an older one does not know how it has voted.
func (t *Transport) serve() { t.mesh.raft.Store(t) }

// abandon ends what is being sent: installs, and the waits for answers. Raft waits
// for them when it shuts down, and closes the transport only afterwards. A peer that
// stops as well does not answer any more.
func (t *Transport) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.left {
		t.left = true
		close(t.leaving)
	}
}

// Close ends the transport's goroutines; raft calls it when it shuts down. The
// Mesh stays open.
func (t *Transport) Close() error {
	t.mesh.raft.CompareAndSwap(t, nil)
	t.abandon()
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.done)
	}
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

// start runs f on a goroutine that Close waits for; false after Close.
func (t *Transport) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(f)
	return true
}

// Consumer yields what peers ask of raft.
func (t *Transport) Consumer() <-chan raft.RPC { return t.consumer }

// LocalAddr is this member's id in text.
func (t *Transport) LocalAddr() raft.ServerAddress {
	return raft.ServerAddress(memberText(t.mesh.cfg.Self))
}

// EncodePeer names a member by its id, whatever its address is.
func (t *Transport) EncodePeer(id raft.ServerID, _ raft.ServerAddress) []byte { return []byte(id) }

// DecodePeer is the reverse of EncodePeer.
func (t *Transport) DecodePeer(id []byte) raft.ServerAddress { return raft.ServerAddress(id) }

// SetHeartbeatHandler is ignored: the fast path it offers races with raft's
// main loop (hashicorp/raft issue 695).
func (t *Transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries sends one append and waits: an election timeout if it carries
// no entries, else five seconds.
func (t *Transport) AppendEntries(id raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	r, err := t.peer(id)
	if err != nil {
		return err
	}
	lane, timeout := laneBulk, appendTimeout
	if len(args.Entries) == 0 {
		lane, timeout = laneUrgent, t.mesh.cfg.ElectionTimeout
	}
	if err := t.awaitRoute(r, args); err != nil {
		return err
	}
	t.boundAppend(args)
	t.commits.sent(r.id, args)
	payload, err := t.ask(r, kindAppend, lane, timeout, appendSize(args), func(b []byte) []byte {
		return encodeAppend(b, args)
	})
	if err == nil {
		err = decodeAppendReply(payload, resp)
	}
	t.commits.answered(r.id, args, resp, err)
	return err
}

// awaitRoute returns when there is a connection to the peer, or nothing to wait
// for. Raft waits after each append that failed, at last for ten seconds, and would
// do so although the peer is back and its heartbeats are answered. Those are not
// held up: raft looks for the peer by them.
func (t *Transport) awaitRoute(r *remote, args *raft.AppendEntriesRequest) error {
	if r.route() != nil || args.PrevLogEntry == 0 && len(args.Entries) == 0 {
		return nil
	}
	look := time.NewTicker(t.mesh.cfg.ElectionTimeout)
	defer look.Stop()
	for {
		changed := t.mesh.Changed()
		if r.route() != nil || t.mesh.known(r.id) != r || t.local.Term() > args.Term {
			return nil
		}
		select {
		case <-changed:
		case <-look.C:
		case <-t.leaving:
			return errTransportClosed
		}
	}
}

// boundAppend leaves out entries beyond appendBytes, which raft then sends
// next: it goes on after the last entry that args still has. The commit index
// is held to the last entry sent, as the paper has it (figure 2): the library's
// follower takes it up to the end of its own log, unchecked. And it is held to
// what this member has on stable storage, because raft counts it as soon as it
// is being written.
func (t *Transport) boundAppend(args *raft.AppendEntriesRequest) {
	size := 0
	for i, e := range args.Entries {
		size += entryOverhead + len(e.Data) + len(e.Extensions)
		if i > 0 && size > appendBytes {
			args.Entries = args.Entries[:i]
			break
		}
	}
	last, _ := lastOf(args)
	args.LeaderCommitIndex = min(args.LeaderCommitIndex, last, t.local.Durable())
}

// RequestVote waits at most an election timeout.
func (t *Transport) RequestVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.mesh.maySend(kindVote); err != nil {
		return err // it is in nobody's way
	}
	t.campaign.noteVoting()
	err := t.askMessage(id, kindVote, voteMessage(args), func(b []byte) error { return decodeVoteReply(b, resp) })
	if err == nil {
		t.campaign.voted(resp.Granted)
	}
	return err
}

// RequestPreVote waits at most an election timeout for the answer. It is held back,
// or its answer not taken, when another member is first; see campaign.
func (t *Transport) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.mesh.maySend(kindPreVote); err != nil {
		return err
	}
	if err := t.campaign.begin(t.leaving); err != nil {
		return err
	}
	err := t.askMessage(id, kindPreVote, preVoteMessage(args), func(b []byte) error { return decodePreVoteReply(b, resp) })
	if err != nil {
		return err
	}
	return t.campaign.answered(resp.Granted)
}

// TimeoutNow waits at most an election timeout.
func (t *Transport) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.askMessage(id, kindTimeoutNow, timeoutNowMessage(args), func(b []byte) error { return decodeTimeoutNowReply(b, resp) })
}

// peer finds the remote for a server id.
func (t *Transport) peer(id raft.ServerID) (*remote, error) {
	number, err := memberID(string(id))
	if err != nil {
		return nil, err
	}
	r := t.mesh.known(number)
	if r == nil {
		return nil, fmt.Errorf("%w: %x is not a peer", ErrUnreachable, number)
	}
	return r, nil
}

// ask sends a raft message, appended to a frame by encode, and waits for its
// answer.
func (t *Transport) ask(r *remote, kind Kind, lane laneID, timeout time.Duration, size int, encode func([]byte) []byte) ([]byte, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	id, p, err := t.post(r, kind, lane, timeout, size, encode)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-p.answer:
		return a.payload, a.err
	case <-timer.C:
		err = fmt.Errorf("no answer from %x within %v", r.id, timeout)
	case <-t.leaving:
		err = errTransportClosed
	}
	r.forget(id)
	return nil, err
}

// post sends a raft message; the caller waits for the answer. It waits itself
// only while the peer's connection has no room.
func (t *Transport) post(r *remote, kind Kind, lane laneID, timeout time.Duration, size int, encode func([]byte) []byte) (uint64, *pendingCall, error) {
	p := &pendingCall{answer: make(chan callAnswer, 1)}
	id, err := t.postFor(p, r, kind, lane, timeout, size, encode)
	return id, p, err
}

// postFor is post for a call whose answer goes where p says.
func (t *Transport) postFor(p *pendingCall, r *remote, kind Kind, lane laneID, timeout time.Duration, size int, encode func([]byte) []byte) (uint64, error) {
	if err := t.mesh.maySend(kind); err != nil {
		return 0, err
	}
	id := t.mesh.lastID.Add(1)
	f := newOutFrame(frameRequest, id, kind, timeout, size)
	f.b = encode(f.b)
	if err := f.seal(); err != nil {
		return 0, err
	}
	err := r.expect(id, p)
	if err == nil && !r.sendNow(lane, f) {
		ctx, cancel := context.WithTimeout(t.mesh.ctx, timeout)
		defer cancel()
		err = r.send(ctx, lane, f)
	}
	if err != nil {
		r.forget(id)
		return 0, unsent(err)
	}
	return id, nil
}

// sendCommit puts a commit index into the peer's slot for it, replacing one
// that has not left yet.
func (t *Transport) sendCommit(peer uint64, args *raft.AppendEntriesRequest) bool {
	r := t.mesh.known(peer)
	if r == nil || t.mesh.maySend(kindCommit) != nil {
		return false
	}
	f := newOutFrame(frameOneWay, 0, kindCommit, 0, appendSize(args))
	f.b = encodeAppend(f.b, args)
	return f.seal() == nil && r.trySend(laneCommit, f)
}

// PushCommit tells the followers of this leader that everything up to index is
// agreed, as far as they have acknowledged it, instead of waiting for the next
// append. It never blocks, and does nothing on a member that does not lead.
func (m *Mesh) PushCommit(index uint64) {
	if t := m.raft.Load(); t != nil {
		t.commits.push(index)
	}
}
