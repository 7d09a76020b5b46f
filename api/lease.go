package api

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// leaseService is etcdserverpb.Lease.
type leaseService struct {
	pb.UnimplementedLeaseServer
	backend Backend
	who     identifier
}

func (s *leaseService) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return s.backend.LeaseGrant(ctx, r)
}

func (s *leaseService) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return s.backend.LeaseRevoke(ctx, r)
}

// LeaseKeepAlive answers one renewal after the other. A lease that there is not
// has the TTL 0, and the stream goes on.
func (s *leaseService) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		ctx, err := s.who.enter(stream.Context())
		if err != nil {
			return err
		}
		resp, err := s.backend.LeaseRenew(ctx, r.GetID())
		if err != nil {
			return err
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func (s *leaseService) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return s.backend.LeaseTimeToLive(ctx, r)
}

func (s *leaseService) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return s.backend.LeaseLeases(ctx)
}
