package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// ErrRemoved: a peer says that this member was removed from the cluster.
var ErrRemoved = errors.New("raftstore: member was removed from the cluster")

// ErrMembershipChanged: the membership is not the one the change was meant for,
// or another change is under way; nothing was changed.
var ErrMembershipChanged = errors.New("raftstore: membership has changed meanwhile")

// ChangeOp is a kind of membership change.
type ChangeOp int

// The changes there are.
const (
	// OpAdd adds a voter. It enters without a vote, so that the members there
	// are stay a quorum until it runs, and gets it by itself: see followPending.
	OpAdd ChangeOp = 1 + iota
	// OpAddLearner adds a member without a vote.
	OpAddLearner
	// OpPromote gives a member its vote.
	OpPromote
	// OpUpdate changes the peer URLs of a member.
	OpUpdate
	// OpRemove removes a member.
	OpRemove
)

// Change is one change of the membership.
type Change struct {
	Op       ChangeOp
	ID       uint64
	PeerURLs []string // of OpAdd, OpAddLearner and OpUpdate
}

// membership is what is agreed about who the members are, in the form of
// raft's configuration entries, and whether this member is still one.
type membership struct {
	self uint64

	mu      sync.Mutex
	index   uint64
	conf    *conclavepb.Configuration
	changed chan struct{} // closed at the next agreed membership
	gone    chan struct{} // closed when this member was removed
}

func newMembership(self uint64, machine Machine) *membership {
	m := &membership{self: self, conf: &conclavepb.Configuration{}, changed: make(chan struct{}), gone: make(chan struct{})}
	if index, conf := machine.Synced().Membership(); conf != nil {
		m.index, m.conf = index, conf
	}
	return m
}

// agreed takes the membership of an entry that is applied, or of an installed
// state. A member that never was in one is joining; one that was, and no longer
// is, was removed.
func (m *membership) agreed(index uint64, conf *conclavepb.Configuration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if serverOf(m.conf, m.self) != nil && serverOf(conf, m.self) == nil {
		m.leave()
	}
	m.index, m.conf = index, conf
	close(m.changed)
	m.changed = make(chan struct{})
}

// leave is called with the lock held.
func (m *membership) leave() {
	select {
	case <-m.gone:
	default:
		close(m.gone)
	}
}

func (m *membership) at() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index
}

func (m *membership) now() (uint64, *conclavepb.Configuration, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index, m.conf, m.changed
}

// serverOf finds a member in a membership, nil if it is not there.
func serverOf(conf *conclavepb.Configuration, id uint64) *conclavepb.Server {
	for _, s := range conf.GetServers() {
		if s.Id == id {
			return s
		}
	}
	return nil
}

// Membership is the membership that is agreed and the index of its entry. The
// caller must not change it.
func (n *Node) Membership() (index uint64, conf *conclavepb.Configuration) {
	index, conf, _ = n.members.now()
	return index, conf
}

// Gone is closed when this member was removed from the cluster: the agreed
// membership has said so, or a majority of the other voters does.
func (n *Node) Gone() <-chan struct{} { return n.members.gone }

// followRemoval finds out from the peers that this member was removed. They
// stop sending it anything as soon as the removal is in their log, so that it
// may never learn from its own that it is agreed.
func (n *Node) followRemoval() {
	for {
		connections := n.cfg.Mesh.Changed()
		removed := 0
		voters := n.otherVoters()
		for _, p := range n.cfg.Mesh.Peers() {
			if slices.Contains(voters, p.ID) && errors.Is(p.LastError, ErrRemoved) {
				removed++
			}
		}
		if len(voters) > 0 && removed > len(voters)/2 {
			n.members.mu.Lock()
			n.members.leave()
			n.members.mu.Unlock()
		}
		select {
		case <-connections:
		case <-n.ctx.Done():
			return
		}
	}
}

// Change has one change of the membership agreed and returns the index of its
// entry. Prev is the index of the membership that the caller looked at. On the
// leader only, and one of two voters does not remove itself: ErrNotLeader then
// says that the other has to lead first. ErrUnknownOutcome is the only error
// after which the change may happen.
func (n *Node) Change(ctx context.Context, prev uint64, c Change) (uint64, error) {
	index, conf := n.Membership()
	if index != prev {
		return 0, ErrMembershipChanged
	}
	if n.raft().State() != raft.Leader {
		return 0, ErrNotLeader
	}
	if c.Op == OpRemove && c.ID == n.cfg.Self && len(n.otherVoters()) == 1 {
		// Were the entry in no other log when this leader is cut off, nobody would
		// lead again: the library lets no member stand for election that its own
		// log has removed, and the other one needs the vote of this one, which
		// has the longer log. The other one can do it alone.
		return 0, ErrNotLeader
	}
	r := n.raft()
	future, err := n.requestChange(r, prev, conf, c)
	if err != nil {
		return 0, err
	}
	err = r.answer(ctx, future)
	n.noteTransfer(err)
	switch {
	case err == nil:
		return future.Index(), nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return 0, ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return 0, ErrMembershipChanged // raft takes none while one is under way
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrAbortedByRestore), ctx.Err() != nil:
		return 0, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	// The library refuses without a sentinel: an old prev, or a membership that
	// would be invalid. The caller has excluded the second, in the first.
	return 0, fmt.Errorf("%w: %w", ErrMembershipChanged, err)
}

// requestChange gives a change to raft.
func (n *Node) requestChange(r *instance, prev uint64, conf *conclavepb.Configuration, c Change) (raft.IndexFuture, error) {
	id, wait := serverID(c.ID), n.cfg.ElectionTimeout
	known := serverOf(conf, c.ID)
	urls := c.PeerURLs
	if c.Op == OpPromote && known != nil {
		urls = known.PeerUrls
	}
	address := raft.ServerAddress(strings.Join(urls, ","))
	if c.Op == OpPromote && known != nil && known.Pending {
		// A voter's mark means nothing. Taken away it would change the address,
		// which the library's replication reads while its main loop writes it.
		address += pendingMark
	}
	switch {
	case c.Op == OpAdd && known == nil:
		return r.AddNonvoter(id, address+pendingMark, prev, wait), nil
	case c.Op == OpAddLearner && known == nil:
		return r.AddNonvoter(id, address, prev, wait), nil
	case known == nil || c.Op == OpAdd || c.Op == OpAddLearner:
		return nil, fmt.Errorf("%w: member %x", ErrMembershipChanged, c.ID)
	case c.Op == OpPromote:
		return r.AddVoter(id, address, prev, wait), nil
	case c.Op == OpUpdate && known.Pending:
		return r.AddNonvoter(id, address+pendingMark, prev, wait), nil
	case c.Op == OpUpdate && known.Learner:
		return r.AddNonvoter(id, address, prev, wait), nil
	case c.Op == OpUpdate:
		return r.AddVoter(id, address, prev, wait), nil
	case c.Op == OpRemove:
		return r.RemoveServer(id, prev, wait), nil
	}
	return nil, fmt.Errorf("raftstore: unknown membership change %d", c.Op)
}
