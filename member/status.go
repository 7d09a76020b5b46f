package member

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/version"
)

// defaultQuota is what a quota of 0 means, in bytes.
const defaultQuota = 2 << 30

// Status describes this member; it asks nobody.
func (m *Member) Status(context.Context) (*pb.StatusResponse, error) {
	view := m.View()
	total, inUse, err := m.machine.Size()
	if err != nil {
		return nil, err
	}
	lead, _ := m.node.Leadership()
	self, _ := view.Members.Get(m.cfg.ID)
	resp := &pb.StatusResponse{
		Header:           m.Header(view.KV.Rev()),
		Version:          version.EtcdServer,
		DbSize:           total,
		DbSizeInUse:      inUse,
		Leader:           lead.Leader,
		RaftIndex:        m.node.CommitIndex(),
		RaftTerm:         lead.Term,
		RaftAppliedIndex: view.Applied,
		IsLearner:        self.Learner,
		StorageVersion:   version.Storage,
		DbSizeQuota:      m.quota(),
		DowngradeInfo:    &pb.DowngradeInfo{Enabled: view.Downgrade.Enabled, TargetVersion: view.Downgrade.Target},
	}
	if lead.Leader == 0 {
		resp.Errors = append(resp.Errors, "etcdserver: no leader")
	}
	for _, a := range view.Alarms.All() {
		resp.Errors = append(resp.Errors, fmt.Sprintf("memberID:%d alarm:%s ", a.Member, a.Type))
	}
	return resp, nil
}

// MemberList lists the members sorted by id, confirmed by a majority if
// linearizable.
func (m *Member) MemberList(ctx context.Context, linearizable bool) (*pb.MemberListResponse, error) {
	if linearizable {
		if err := m.linearize(ctx); err != nil {
			return nil, err
		}
	}
	return &pb.MemberListResponse{Header: m.Header(0), Members: memberList(m.View().Members)}, nil
}

// ClusterVersion is the agreed cluster version, "not_decided" before that.
func (m *Member) ClusterVersion() string {
	if v := m.View().ClusterVersion; v != "" {
		return v
	}
	return "not_decided"
}
