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
	n.cfg.Mesh.Handle(KindReadIndex, n.answerReadIndex)
	n.cfg.Mesh.Handle(KindLevel, n.answerLevel)
}

// answerConfirm runs outside raft's main loop, so that no fsync stands in the
// way of a read. The term was made durable before raft showed it.
func (n *Node) answerConfirm(uint64, []byte) []byte { return confirmation(n.Term()) }

// answerReadIndex takes the asker's word for its own term, as it would if it asked
// back: in a cluster of three nobody else needs to be asked.
func (n *Node) answerReadIndex(ctx context.Context, asker uint64, payload []byte) ([]byte, error) {
	lead := n.leadership()
	if lead.Leader != n.cfg.Self {
		return nil, ErrNotLeader
	}
	if !confirms(payload, lead.Term) {
		asker = 0
	}
	index, err := n.confirmLead(ctx, lead.Term, asker)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&conclavepb.ReadIndex{Index: index})
}
