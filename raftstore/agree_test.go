package raftstore

import (
	"errors"
	"testing"
)

// A peer that has only dialled may still drop the connection when it reads who
// answers, as it does with a member that lost its data directory.
func TestSettled_dialledAloneIsNoConsent(t *testing.T) {
	down := errors.New("connection refused")
	for _, c := range []struct {
		name  string
		peers []PeerStatus
		want  bool
	}{
		{"both accepted", []PeerStatus{{Outbound: true}, {Inbound: true, Outbound: true}}, true},
		{"one accepted, one is down", []PeerStatus{{Outbound: true}, {LastError: down}}, true},
		{"one has only dialled", []PeerStatus{{Inbound: true}, {LastError: down}}, false},
		{"one has only dialled and cannot be dialled", []PeerStatus{{Inbound: true, LastError: down}, {Outbound: true}}, false},
		{"one was not tried yet", []PeerStatus{{Outbound: true}, {}}, false},
	} {
		if got := settled(c.peers); got != c.want {
			t.Errorf("%s: settled is %t", c.name, got)
		}
	}
}

// Two data directories of a member that joins can never both get a majority,
// whoever answers them: the majority is of the others.
func TestAgreement_quorum(t *testing.T) {
	for members := 2; members <= 8; members++ {
		a := Agreement{Members: make([]uint64, members), Joining: true}
		others := members - 1
		if asked := a.quorum() - 1; 2*asked <= others || asked > others {
			t.Errorf("of %d others %d have to record a start that joins", others, asked)
		}
		a.Joining = false
		if a.quorum() != members/2+1 {
			t.Errorf("%d of %d members have to agree", a.quorum(), members)
		}
	}
}
