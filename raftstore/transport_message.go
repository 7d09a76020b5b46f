package raftstore

import (
	"fmt"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// askMessage sends one of the rare messages and waits an election timeout.
func (t *Transport) askMessage(id raft.ServerID, kind Kind, msg proto.Message, decode func([]byte) error) error {
	r, err := t.peer(id)
	if err != nil {
		return err
	}
	body, err := proto.Marshal(msg)
	if err != nil {
		return err
	}
	answer, err := t.ask(r, kind, laneUrgent, t.mesh.cfg.ElectionTimeout, len(body), func(b []byte) []byte {
		return append(b, body...)
	})
	if err != nil {
		return err
	}
	return decode(answer)
}

func voteMessage(a *raft.RequestVoteRequest) *conclavepb.RaftVote {
	return &conclavepb.RaftVote{
		Header: headerMessage(a.RPCHeader), Term: a.Term,
		LastLogIndex: a.LastLogIndex, LastLogTerm: a.LastLogTerm, LeadershipTransfer: a.LeadershipTransfer,
	}
}

func preVoteMessage(a *raft.RequestPreVoteRequest) *conclavepb.RaftVote {
	return &conclavepb.RaftVote{
		Header: headerMessage(a.RPCHeader), Term: a.Term,
		LastLogIndex: a.LastLogIndex, LastLogTerm: a.LastLogTerm,
	}
}

func timeoutNowMessage(a *raft.TimeoutNowRequest) *conclavepb.RaftTimeoutNow {
	return &conclavepb.RaftTimeoutNow{Header: headerMessage(a.RPCHeader)}
}

func snapshotMessage(a *raft.InstallSnapshotRequest) *conclavepb.RaftSnapshot {
	return &conclavepb.RaftSnapshot{
		Header: headerMessage(a.RPCHeader), SnapshotVersion: int64(a.SnapshotVersion), Term: a.Term,
		LastLogIndex: a.LastLogIndex, LastLogTerm: a.LastLogTerm,
		Configuration: a.Configuration, ConfigurationIndex: a.ConfigurationIndex, Size: a.Size,
	}
}

// decodeRequest reads what a peer asks of raft.
func decodeRequest(kind Kind, b []byte) (any, error) {
	switch kind {
	case kindAppend, kindCommit:
		return decodeAppend(b)
	case kindVote, kindPreVote:
		var msg conclavepb.RaftVote
		if err := unmarshal(b, &msg); err != nil {
			return nil, err
		}
		header := headerOf(msg.Header)
		if kind == kindPreVote {
			return &raft.RequestPreVoteRequest{
				RPCHeader: header, Term: msg.Term, LastLogIndex: msg.LastLogIndex, LastLogTerm: msg.LastLogTerm,
			}, nil
		}
		return &raft.RequestVoteRequest{
			RPCHeader: header, Term: msg.Term, Candidate: header.Addr,
			LastLogIndex: msg.LastLogIndex, LastLogTerm: msg.LastLogTerm, LeadershipTransfer: msg.LeadershipTransfer,
		}, nil
	case kindTimeoutNow:
		var msg conclavepb.RaftTimeoutNow
		if err := unmarshal(b, &msg); err != nil {
			return nil, err
		}
		return &raft.TimeoutNowRequest{RPCHeader: headerOf(msg.Header)}, nil
	case kindSnapshot:
		var msg conclavepb.RaftSnapshot
		if err := unmarshal(b, &msg); err != nil {
			return nil, err
		}
		header := headerOf(msg.Header)
		return &raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: raft.SnapshotVersion(msg.SnapshotVersion), Term: msg.Term, Leader: header.Addr,
			LastLogIndex: msg.LastLogIndex, LastLogTerm: msg.LastLogTerm,
			Configuration: msg.Configuration, ConfigurationIndex: msg.ConfigurationIndex, Size: msg.Size,
		}, nil
	}
	return nil, fmt.Errorf("%w: kind %d", errBadFrame, kind)
}

// encodeReply appends raft's answer to a request to b.
func encodeReply(b []byte, resp any) ([]byte, error) {
	var msg proto.Message
	switch r := resp.(type) {
	case *raft.AppendEntriesResponse:
		return encodeAppendReply(b, r), nil
	case *raft.RequestVoteResponse:
		msg = &conclavepb.RaftVoteReply{Header: headerMessage(r.RPCHeader), Term: r.Term, Granted: r.Granted}
	case *raft.RequestPreVoteResponse:
		msg = &conclavepb.RaftVoteReply{Header: headerMessage(r.RPCHeader), Term: r.Term, Granted: r.Granted}
	case *raft.TimeoutNowResponse:
		msg = headerMessage(r.RPCHeader)
	case *raft.InstallSnapshotResponse:
		msg = &conclavepb.RaftSnapshotReply{Header: headerMessage(r.RPCHeader), Term: r.Term, Success: r.Success}
	default:
		return b, fmt.Errorf("raftstore: raft answered with %T", resp)
	}
	return proto.MarshalOptions{}.MarshalAppend(b, msg)
}

func decodeVoteReply(b []byte, resp *raft.RequestVoteResponse) error {
	var msg conclavepb.RaftVoteReply
	err := unmarshal(b, &msg)
	*resp = raft.RequestVoteResponse{RPCHeader: headerOf(msg.Header), Term: msg.Term, Granted: msg.Granted}
	return err
}

func decodePreVoteReply(b []byte, resp *raft.RequestPreVoteResponse) error {
	var msg conclavepb.RaftVoteReply
	err := unmarshal(b, &msg)
	*resp = raft.RequestPreVoteResponse{RPCHeader: headerOf(msg.Header), Term: msg.Term, Granted: msg.Granted}
	return err
}

func decodeTimeoutNowReply(b []byte, resp *raft.TimeoutNowResponse) error {
	var msg conclavepb.RaftHeader
	err := unmarshal(b, &msg)
	resp.RPCHeader = headerOf(&msg)
	return err
}

func decodeSnapshotReply(b []byte, resp *raft.InstallSnapshotResponse) error {
	var msg conclavepb.RaftSnapshotReply
	err := unmarshal(b, &msg)
	*resp = raft.InstallSnapshotResponse{RPCHeader: headerOf(msg.Header), Term: msg.Term, Success: msg.Success}
	return err
}
