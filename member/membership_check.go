package member

import (
	"time"

	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// healthInterval is how long a peer must have been connected to count as
// healthy when the membership is about to change. It is etcd's.
const healthInterval = 5 * time.Second

// mayChange holds a change against --strict-reconfig-check, as etcd does on the
// member that took the request: by who has started and who is connected here.
func (m *Member) mayChange(c raftstore.Change, members *fsm.Members) error {
	if !m.cfg.StrictReconfig {
		return nil
	}
	voting := voters(members)
	switch c.Op {
	case raftstore.OpAdd, raftstore.OpAddLearner:
		return m.mayAdd(c.Op, voting)
	case raftstore.OpRemove:
		if e, found := members.Get(c.ID); found && e.Learner {
			return nil
		}
		return m.mayRemove(c.ID, voting)
	}
	return nil
}

func (m *Member) mayAdd(op raftstore.ChangeOp, voting []fsm.Member) error {
	after := len(voting) + 1
	have := started(voting)
	// Growing from one member is how a cluster is restored: one is enough.
	if op == raftstore.OpAdd && have < majority(after) && !(have == 1 && after == 2) {
		return ErrNotEnoughStarted
	}
	// The new member counts as unavailable.
	if len(voting) > 1 && m.healthy(voting) < majority(after) {
		return ErrUnhealthy
	}
	return nil
}

func (m *Member) mayRemove(id uint64, voting []fsm.Member) error {
	var rest []fsm.Member
	for _, e := range voting {
		if e.ID != id {
			rest = append(rest, e)
		}
	}
	if started(rest) < majority(len(rest)) {
		return ErrNotEnoughStarted
	}
	// Whoever is down takes nothing from the quorum by leaving.
	if _, up := m.connectedSince(id); id != m.cfg.ID && !up {
		return nil
	}
	if m.healthy(voting)-1 < 1+(len(voting)-1)/2 {
		return ErrUnhealthy
	}
	return nil
}

// mayPromote is the part of the strict check that only the leader makes: the
// learner counts as started.
func (m *Member) mayPromote(members *fsm.Members) error {
	voting := voters(members)
	if m.cfg.StrictReconfig && started(voting)+1 < majority(len(voting)+1) {
		return ErrNotEnoughStarted
	}
	return nil
}

// healthy counts the members that have been connected for healthInterval; this
// one always is.
func (m *Member) healthy(voting []fsm.Member) int {
	count := 0
	for _, e := range voting {
		since, up := m.connectedSince(e.ID)
		if e.ID == m.cfg.ID || up && time.Since(since) > m.cfg.HealthInterval {
			count++
		}
	}
	return count
}

// connectedSince tells since when a peer is connected, if it is.
func (m *Member) connectedSince(id uint64) (since time.Time, up bool) {
	for _, p := range m.mesh.Peers() {
		if p.ID == id {
			return p.Since, p.Inbound || p.Outbound
		}
	}
	return time.Time{}, false
}

// voters are the members that are no learners. One that waits for its vote
// counts, as it would in etcd.
func voters(members *fsm.Members) []fsm.Member {
	var out []fsm.Member
	for _, e := range members.All() {
		if !e.Learner {
			out = append(out, e)
		}
	}
	return out
}

// started counts who has published a name.
func started(members []fsm.Member) int {
	count := 0
	for _, e := range members {
		if e.Name != "" {
			count++
		}
	}
	return count
}

func majority(n int) int { return n/2 + 1 }
