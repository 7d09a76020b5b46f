package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// clusterService is etcdserverpb.Cluster.
type clusterService struct {
	pb.UnimplementedClusterServer
	backend Backend
}

func (s *clusterService) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	urls, ok := peerURLs(r.GetPeerURLs())
	if !ok {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	return s.backend.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: urls, IsLearner: r.GetIsLearner()})
}

func (s *clusterService) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return s.backend.MemberRemove(ctx, r)
}

func (s *clusterService) MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	urls, ok := peerURLs(r.GetPeerURLs())
	if !ok {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	return s.backend.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: r.GetID(), PeerURLs: urls})
}

func (s *clusterService) MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	return s.backend.MemberPromote(ctx, r)
}

func (s *clusterService) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return s.backend.MemberList(ctx, r.GetLinearizable())
}
