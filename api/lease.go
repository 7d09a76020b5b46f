package api

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// leaseService is etcdserverpb.Lease.
type leaseService struct {
	pb.UnimplementedLeaseServer
	backend Backend
	who     identifier
	audit   *auditor        // nil: nothing is recorded
	receive *sync.WaitGroup // of the goroutines beside calls
}

func (s *leaseService) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return s.backend.LeaseGrant(ctx, r)
}

func (s *leaseService) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return s.backend.LeaseRevoke(ctx, r)
}

func (s *leaseService) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return s.backend.LeaseTimeToLive(ctx, r)
}

func (s *leaseService) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return s.backend.LeaseLeases(ctx)
}
