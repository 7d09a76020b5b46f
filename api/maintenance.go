package api

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maintenanceService is etcdserverpb.Maintenance; what it lacks answers
// Unimplemented.
type maintenanceService struct {
	pb.UnimplementedMaintenanceServer
	backend Backend
	pace    snapshotPace
	sending *sync.WaitGroup // goroutines that send snapshots
}

func (s *maintenanceService) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	return s.backend.Status(ctx)
}

// Alarm refuses actions and types that it does not know: etcd breaks down at the
// former, and an alarm of a type that nobody knows would be in force for ever.
func (s *maintenanceService) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if _, known := pb.AlarmRequest_AlarmAction_name[int32(r.GetAction())]; !known {
		return nil, status.Errorf(codes.InvalidArgument, "etcdserver: unknown alarm action %d", r.GetAction())
	}
	if _, known := pb.AlarmType_name[int32(r.GetAlarm())]; !known {
		return nil, status.Errorf(codes.InvalidArgument, "etcdserver: unknown alarm type %d", r.GetAlarm())
	}
	return s.backend.Alarm(ctx, r)
}

// Downgrade refuses an action that it does not know as etcd does.
func (s *maintenanceService) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	if _, known := pb.DowngradeRequest_DowngradeAction_name[int32(r.GetAction())]; !known {
		return nil, status.Error(codes.Unknown, "etcdserver: unknown method")
	}
	return s.backend.Downgrade(ctx, r)
}

// MoveLeader answers without a header, as etcd does.
func (s *maintenanceService) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if err := s.backend.MoveLeader(ctx, r.GetTargetID()); err != nil {
		return nil, err
	}
	return &pb.MoveLeaderResponse{}, nil
}
