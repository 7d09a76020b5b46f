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
