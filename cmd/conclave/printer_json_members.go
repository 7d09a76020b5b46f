package main

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (p *jsonPrinter) memberList(r *clientv3.MemberListResponse) error {
	return p.writeMembers((*pb.MemberListResponse)(r), r.Header, r.Members)
}

func (p *jsonPrinter) memberRemove(_ uint64, r *clientv3.MemberRemoveResponse) error {
	return p.writeMembers((*pb.MemberRemoveResponse)(r), r.Header, r.Members)
}

func (p *jsonPrinter) memberUpdate(_ uint64, r *clientv3.MemberUpdateResponse) error {
	return p.writeMembers((*pb.MemberUpdateResponse)(r), r.Header, r.Members)
}

func (p *jsonPrinter) memberPromote(_ uint64, r *clientv3.MemberPromoteResponse) error {
	return p.writeMembers((*pb.MemberPromoteResponse)(r), r.Header, r.Members)
}

func (p *jsonPrinter) memberAdd(r *clientv3.MemberAddResponse) error {
	if !p.hex {
		return p.write((*pb.MemberAddResponse)(r))
	}
	return p.write(struct {
		Header  hexHeader   `json:"header"`
		Member  hexMember   `json:"member"`
		Members []hexMember `json:"members"`
	}{newHexHeader(r.Header), newHexMember(r.Member), newHexMembers(r.Members)})
}

func (p *jsonPrinter) moveLeader(_, _ uint64, r *clientv3.MoveLeaderResponse) error {
	return p.write((*pb.MoveLeaderResponse)(r))
}

// writeMembers writes an answer that is a header and members: plain as it is,
// with --hex from its parts.
func (p *jsonPrinter) writeMembers(plain any, header *pb.ResponseHeader, members []*pb.Member) error {
	if !p.hex {
		return p.write(plain)
	}
	return p.write(struct {
		Header  hexHeader   `json:"header"`
		Members []hexMember `json:"members"`
	}{newHexHeader(header), newHexMembers(members)})
}

type hexHeader struct {
	ClusterID string `json:"cluster_id"`
	MemberID  string `json:"member_id"`
	Revision  int64  `json:"revision,omitempty"`
	RaftTerm  uint64 `json:"raft_term,omitempty"`
}

type hexMember struct {
	ID         string   `json:"ID"`
	Name       string   `json:"name,omitempty"`
	PeerURLs   []string `json:"peerURLs,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
	IsLearner  bool     `json:"isLearner,omitempty"`
}

func newHexHeader(h *pb.ResponseHeader) hexHeader {
	return hexHeader{
		ClusterID: fmt.Sprintf("%x", h.GetClusterId()), MemberID: fmt.Sprintf("%x", h.GetMemberId()),
		Revision: h.GetRevision(), RaftTerm: h.GetRaftTerm(),
	}
}

func newHexMember(m *pb.Member) hexMember {
	return hexMember{
		ID: fmt.Sprintf("%x", m.GetID()), Name: m.GetName(), PeerURLs: m.GetPeerURLs(),
		ClientURLs: m.GetClientURLs(), IsLearner: m.GetIsLearner(),
	}
}

func newHexMembers(members []*pb.Member) []hexMember {
	out := []hexMember{}
	for _, m := range members {
		out = append(out, newHexMember(m))
	}
	return out
}
