package raftstore

import (
	"testing"

	"github.com/hashicorp/raft"
)

// changingRaft is in term 3 under member 1, and in term 4 without a leader as soon
// as it was asked for the leader.
type changingRaft struct{ asked int }

func (r *changingRaft) CurrentTerm() uint64 { return uint64(3 + min(r.asked, 1)) }

func (r *changingRaft) LeaderWithID() (raft.ServerAddress, raft.ServerID) {
	if r.asked++; r.asked > 1 {
		return "", ""
	}
	return "", serverID(1)
}

// A leader is never told with the term that ended its own.
func TestLeadership_ofOneTerm(t *testing.T) {
	if got, want := leadershipOf(&changingRaft{}), (Leadership{Leader: 0, Term: 4}); got != want {
		t.Errorf("told is %+v, want %+v", got, want)
	}
}
