package raftstore

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// Nothing by which a member leads, or wants to, leaves while its watchdog says
// no, and it promises no vote; what it asks and answers otherwise does.
func TestMesh_watchHoldsBack(t *testing.T) {
	_, a, b := transportPair(t)
	var alive atomic.Bool
	a.mesh.Watch(alive.Load)
	pipe, err := a.AppendEntriesPipeline(peer2, "")
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	heartbeat := &raft.AppendEntriesRequest{RPCHeader: testHeader, Term: 1}
	for name, send := range map[string]func() error{
		"append":    func() error { return a.AppendEntries(peer2, "", entry(1), &raft.AppendEntriesResponse{}) },
		"heartbeat": func() error { return a.AppendEntries(peer2, "", heartbeat, &raft.AppendEntriesResponse{}) },
		"pipelined append": func() error {
			_, err := pipe.AppendEntries(entry(1), &raft.AppendEntriesResponse{})
			return err
		},
		"vote": func() error {
			return a.RequestVote(peer2, "", &raft.RequestVoteRequest{RPCHeader: testHeader}, &raft.RequestVoteResponse{})
		},
		"pre-vote": func() error {
			return a.RequestPreVote(peer2, "", &raft.RequestPreVoteRequest{RPCHeader: testHeader}, &raft.RequestPreVoteResponse{})
		},
		"snapshot": func() error {
			return a.InstallSnapshot(peer2, "", &raft.InstallSnapshotRequest{RPCHeader: testHeader, Size: 1}, &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte{1}))
		},
	} {
		if err := send(); !errors.Is(err, ErrHeldBack) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a.sendCommit(2, heartbeat) {
		t.Error("a commit index left")
	}
	if err := call(t, a.mesh, 2, "a call", 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := call(t, b.mesh, 1, "an answer", 5*time.Second); err != nil {
		t.Error(err)
	}
	their := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(b.LocalAddr()), Addr: []byte(b.LocalAddr())}
	if err := b.RequestPreVote(raft.ServerID(a.LocalAddr()), "", &raft.RequestPreVoteRequest{RPCHeader: their}, &raft.RequestPreVoteResponse{}); err == nil {
		t.Error("a vote is promised that could not be written")
	}
	for _, of := range []*Transport{a, b} {
		select {
		case rpc := <-of.Consumer():
			t.Errorf("%T arrived", rpc.Command)
		default:
		}
	}
	alive.Store(true)
	answered := make(chan error, 1)
	go func() { answered <- a.AppendEntries(peer2, "", heartbeat, &raft.AppendEntriesResponse{}) }()
	receiveRPC(t, b).Respond(&raft.AppendEntriesResponse{Success: true}, nil)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// A leader whose watchdog holds its messages back is replaced within two
// election timeouts, and does not come back while it is held.
func TestMesh_watchedLeaderIsReplaced(t *testing.T) { synctest.Test(t, watchedLeaderIsReplaced) }

func watchedLeaderIsReplaced(t *testing.T) {
	net := newFaultNet(1)
	members := toyCluster(t, net, 3, 50*time.Millisecond)
	defer stopAll(t, members)
	old := leaderOf(t, members)
	old.apply(t, "before")
	var others []*toyMember
	for _, m := range members {
		if m != old {
			others = append(others, m)
		}
	}
	start := time.Now()
	old.mesh.Watch(func() bool { return false })
	lead := leaderOf(t, others)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("replaced after %v", took)
	}
	for range 20 {
		lead.apply(t, "after")
		time.Sleep(200 * time.Millisecond) // in the bubble's time: several elections could have been called
	}
	if now := leaderOf(t, others); now != lead || old.raft.State() == raft.Leader {
		t.Errorf("%x leads, and the one held back is %v", now.id, old.raft.State())
	}
}
