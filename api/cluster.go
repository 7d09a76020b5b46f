package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// clusterService is etcdserverpb.Cluster; what it lacks answers Unimplemented.
type clusterService struct {
	pb.UnimplementedClusterServer
	backend Backend
}

func (s *clusterService) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return s.backend.MemberList(ctx, r.GetLinearizable())
}
