package raftstore

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// What members ask each other besides raft's own messages.
const (
	// KindConfirm asks a voter for its current term.
	KindConfirm Kind = 1 + iota
	// KindReadIndex asks the leader for a confirmed index, and says which term the
	// member that asks is in.
	KindReadIndex
	// KindClaim tells a peer that a member starts with a data directory.
	KindClaim
	// KindForward carries a batch of requests to the leader of a term.
	KindForward
	// KindLevel asks a member how far it is.
	KindLevel
	// KindChange asks the leader to change the membership.
	KindChange
	// KindHung tells a follower that its leader's disk hangs.
	KindHung
	// KindDefragTurn asks the leader whether a member may defragment now.
	KindDefragTurn
	// KindHashKV asks a member for the hash of its keys at a revision.
	KindHashKV
	// KindLeaseRenew asks the leader to renew leases.
	KindLeaseRenew
	// KindLeaseTTL asks the leader how long a lease has.
	KindLeaseTTL
)

// handleCalls installs the node's own answers.
func (n *Node) handleCalls() {
	n.cfg.Mesh.handleQuickly(KindConfirm, n.answerConfirm)
	n.cfg.Mesh.handleQuickly(KindHung, n.answerHung)
	n.cfg.Mesh.handleQuickly(KindReadIndex, n.answerReadIndexAtOnce)
	n.cfg.Mesh.Handle(KindReadIndex, n.answerReadIndex)
	n.cfg.Mesh.Handle(KindLevel, n.answerLevel)
}

// answerConfirm runs outside raft's main loop, so that no fsync stands in the
// way of a read. The term was made durable before raft showed it.
func (n *Node) answerConfirm(uint64, []byte) ([]byte, bool) { return confirmation(n.Term()), true }

// answerReadIndex takes the asker's word for its own term, as it would if it asked
// back.
func (n *Node) answerReadIndex(ctx context.Context, asker uint64, payload []byte) ([]byte, error) {
	lead, asker, ok := n.askedToRead(asker, payload)
	if !ok {
		return nil, ErrNotLeader
	}
	index, err := n.confirmLead(ctx, lead.Term, asker)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&conclavepb.ReadIndex{Index: index})
}

// answerReadIndexAtOnce answers where nobody else has to be asked, as in a cluster
// of three.
func (n *Node) answerReadIndexAtOnce(asker uint64, payload []byte) ([]byte, bool) {
	lead, asker, ok := n.askedToRead(asker, payload)
	if !ok {
		return nil, false
	}
	index, _, need, err := n.beginConfirm(lead.Term, asker)
	if err != nil || need > 0 || n.stillTerm(lead.Term) != nil {
		return nil, false
	}
	answer, err := proto.Marshal(&conclavepb.ReadIndex{Index: index})
	return answer, err == nil
}

// askedToRead returns the term that this member leads, and who confirms it by
// having asked, 0 for nobody.
func (n *Node) askedToRead(asker uint64, payload []byte) (lead Leadership, by uint64, ok bool) {
	lead = n.leadership()
	if confirms(payload, lead.Term) {
		by = asker
	}
	return lead, by, lead.Leader == n.cfg.Self
}
