package raftstore

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// turns is how many members may stand for election, one after the other, within
// an election timeout.
const turns = 4

// followVacancy has this member stand for election as soon as the leader's
// process is known to be gone, instead of after the silence that is all a lost
// host or link leaves. The kernel tells: both connections to it ended and its
// port refuses new ones. A leader whose disk hangs tells it itself. Members stand in the order of their ids, a part of the
// election timeout apart, so that their votes do not split; whoever has the
// better log wins in its turn. Raft is told by the message that also ends a
// transfer of leadership, and decides as ever.
func (n *Node) followVacancy() {
	var tried Leadership
	for {
		connections := n.cfg.Mesh.Changed()
		lead, changed := n.Leadership()
		if lead != tried && n.vacant(lead) && n.awaitTurn(lead, changed) {
			tried = lead
			n.cfg.Log.Info().Str("leader", string(serverID(lead.Leader))).Uint64("term", lead.Term).
				Msg("the leader's process is gone, or its disk hangs; standing for election")
			n.raft().transport.standForElection()
		}
		select {
		case <-connections:
		case <-changed:
		case <-n.ctx.Done():
			return
		}
	}
}

// vacant reports whether the leader is a peer whose process is gone, or which has
// told that its disk hangs.
func (n *Node) vacant(lead Leadership) bool {
	if lead.Leader == 0 || lead.Leader == n.cfg.Self {
		return false
	}
	if hung := n.hung.Load(); hung != nil && *hung == lead {
		return true
	}
	for _, p := range n.cfg.Mesh.Peers() {
		if p.ID == lead.Leader {
			return !p.Inbound && !p.Outbound && errors.Is(p.LastError, syscall.ECONNREFUSED)
		}
	}
	return false
}

// awaitTurn returns true when it is this member's turn to stand and the place
// is still vacant; never for a member without a vote.
func (n *Node) awaitTurn(lead Leadership, changed <-chan struct{}) bool {
	ids := voters(n.configuration())
	ids = slices.DeleteFunc(ids, func(id uint64) bool { return id == lead.Leader })
	slices.Sort(ids)
	turn := slices.Index(ids, n.cfg.Self)
	if turn < 0 {
		return false
	}
	wait := time.NewTimer(time.Duration(turn) * n.cfg.ElectionTimeout / turns)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
			return n.leadership() == lead && n.vacant(lead)
		case <-changed:
			var now Leadership
			if now, changed = n.Leadership(); now != lead {
				return false
			}
		case <-n.ctx.Done():
			return false
		}
	}
}

// standForElection has raft behave as if a leader had asked this member to take
// over. It returns when raft has taken the message.
func (t *Transport) standForElection() {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{
		Command:  &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}},
		RespChan: answer,
	}
	select {
	case t.consumer <- rpc:
	case <-t.done:
	}
}
