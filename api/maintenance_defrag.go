package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Defragment answers without a header, as etcd does, and for this member alone.
func (s *maintenanceService) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	if err := s.backend.Defragment(ctx); err != nil {
		return nil, err
	}
	return &pb.DefragmentResponse{}, nil
}
