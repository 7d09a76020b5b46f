package api

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maintenanceService is etcdserverpb.Maintenance; what it lacks answers
// Unimplemented.
type maintenanceService struct {
	pb.UnimplementedMaintenanceServer
	backend Backend
}

func (s *maintenanceService) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	return s.backend.Status(ctx)
}

// Alarm lists alarms: all for type NONE, otherwise those of that type. As in
// etcd, the member id of a GET is not looked at.
func (s *maintenanceService) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if r.GetAction() != pb.AlarmRequest_GET {
		return nil, status.Errorf(codes.Unimplemented, "method Alarm not implemented for action %s", r.GetAction())
	}
	resp, err := s.backend.Alarms(ctx)
	if err != nil || r.GetAlarm() == pb.AlarmType_NONE {
		return resp, err
	}
	resp.Alarms = slices.DeleteFunc(resp.Alarms, func(a *pb.AlarmMember) bool {
		return a.GetAlarm() != r.GetAlarm()
	})
	return resp, nil
}

// MoveLeader answers without a header, as etcd does.
func (s *maintenanceService) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if err := s.backend.MoveLeader(ctx, r.GetTargetID()); err != nil {
		return nil, err
	}
	return &pb.MoveLeaderResponse{}, nil
}
