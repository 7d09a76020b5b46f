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

// vacancy is a leader's place that need not wait for raft's timers to be filled.
type vacancy struct {
	why string
	// not are the members that cannot fill it.
	not []uint64
}

// refusal is a candidate whose log lacks what this member's has.
type refusal struct{ candidate, term uint64 }

// followVacancy has this member stand for election as soon as there is a vacancy,
// instead of after the silence that is all a lost host or link leaves. Members
// stand in the order of their ids, a part of the election timeout apart, so that
// their votes do not split; whoever has the better log wins in its turn. Raft is
// told by the message that also ends a transfer of leadership, and decides as
// ever.
func (n *Node) followVacancy() {
	var tried Leadership
	var last uint64 // leader
	for {
		connections := n.cfg.Mesh.Changed()
		lead, changed := n.Leadership()
		if lead.Leader != 0 {
			last = lead.Leader
		}
		if v := n.vacancy(lead, last); lead != tried && v != nil && n.awaitTurn(lead, v, changed) {
			tried = lead
			n.cfg.Log.Info().Str("leader", string(serverID(last))).Uint64("term", lead.Term).Str("reason", v.why).
				Msg("standing for election at once")
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

// vacancy is nil while there is a leader, or may be. A peer's process is gone when
// both connections to it ended and its port refuses new ones, as the kernel
// tells; a leader whose disk hangs tells it itself. A candidate that was refused
// because of its log has ended the term of the leader before, and cannot win.
func (n *Node) vacancy(lead Leadership, last uint64) *vacancy {
	switch {
	case lead.Leader == n.cfg.Self:
		return nil
	case lead.Leader == 0:
		r := n.refused.Load()
		if r == nil || r.term != lead.Term || n.votedIn(lead.Term) {
			return nil
		}
		return &vacancy{"a candidate's log ends before this member's", []uint64{r.candidate, last}}
	}
	if hung := n.hung.Load(); hung != nil && *hung == lead {
		return &vacancy{"the leader's disk hangs", []uint64{lead.Leader}}
	}
	for _, p := range n.cfg.Mesh.Peers() {
		if p.ID == lead.Leader && !p.Inbound && !p.Outbound && errors.Is(p.LastError, syscall.ECONNREFUSED) {
			return &vacancy{"the leader's process is gone", []uint64{lead.Leader}}
		}
	}
	return nil
}

// votedIn says whether raft has given its vote in a term, or cannot tell.
func (n *Node) votedIn(term uint64) bool {
	voted, err := n.logs.GetUint64(keyLastVoteTerm)
	return err != nil || voted >= term
}

// Refused is told of candidates that this member did not vote for.
func (l local) Refused(candidate, term uint64) {
	l.node.refused.Store(&refusal{candidate, term})
	l.node.leaders.stir()
}

// awaitTurn returns true when it is this member's turn to stand and the place
// is still vacant; never for a member without a vote.
func (n *Node) awaitTurn(lead Leadership, v *vacancy, changed <-chan struct{}) bool {
	ids := voters(n.configuration())
	ids = slices.DeleteFunc(ids, func(id uint64) bool { return slices.Contains(v.not, id) })
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
			return n.leadership() == lead && n.vacancy(lead, lead.Leader) != nil
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

// followExcluded has this member stand for election while nobody leads and the
// newest membership in its log, which was never agreed, has no vote for it. Raft
// lets no such member stand, but it may be the only one that can be elected: its
// log is longer than those of the others, who need its vote by the membership they
// know (section 4.2.2 of Ongaro's dissertation). It leads until that membership is
// agreed. Whoever is asked at once to stand asks for no pre-votes; it does so here.
func (n *Node) followExcluded() {
	for pause(n.ctx, n.cfg.ElectionTimeout); n.ctx.Err() == nil; pause(n.ctx, n.cfg.ElectionTimeout) {
		if ids := n.excludedBy(); ids != nil && n.wantedBy(ids) {
			n.cfg.Log.Info().Msg("standing for election although the newest membership, which was not agreed, is without this member")
			n.raft().transport.standForElection()
		}
	}
}

// votes reports whether the newest membership has a vote for this member. One that
// leads without only has that membership agreed: see followExcluded.
func (n *Node) votes() bool { return slices.Contains(voters(n.configuration()), n.cfg.Self) }

// excludedBy are the voters of the newest membership, if nobody leads and this
// member has a vote in the agreed one only.
func (n *Node) excludedBy() []uint64 {
	_, agreed := n.Membership()
	ids := voters(n.configuration())
	if n.leadership().Leader != 0 || slices.Contains(ids, n.cfg.Self) || !slices.Contains(voters(encodeConfiguration(agreed)), n.cfg.Self) {
		return nil
	}
	return ids
}

// wantedBy reports whether a majority of ids would vote for this member.
func (n *Node) wantedBy(ids []uint64) bool {
	var last raft.Log
	if index, err := n.logs.LastIndex(); err != nil || n.logs.GetLog(index, &last) != nil {
		return false
	}
	t := n.raft().transport
	req := &raft.RequestPreVoteRequest{
		RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(serverID(n.cfg.Self)), Addr: []byte(t.LocalAddr()),
		},
		Term: n.Term() + 1, LastLogIndex: last.Index, LastLogTerm: last.Term,
	}
	granted := make(chan bool, len(ids))
	for _, id := range ids {
		go func() {
			var resp raft.RequestPreVoteResponse
			granted <- t.RequestPreVote(serverID(id), "", req, &resp) == nil && resp.Granted
		}()
	}
	yes := 0
	for range ids {
		if <-granted {
			yes++
		}
	}
	return yes > len(ids)/2
}
