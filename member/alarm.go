package member

import (
	"context"

	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// Alarms lists the alarms raised, as this member knows them.
func (m *Member) Alarms(context.Context) (*pb.AlarmResponse, error) {
	return m.alarmsOf(pb.AlarmType_NONE), nil
}

// alarmsOf lists the alarms of a type, all for NONE.
func (m *Member) alarmsOf(t pb.AlarmType) *pb.AlarmResponse {
	view := m.View()
	resp := &pb.AlarmResponse{Header: m.Header(view.KV.Rev())}
	for _, a := range view.Alarms.All() {
		if t == pb.AlarmType_NONE || t == a.Type {
			resp.Alarms = append(resp.Alarms, &pb.AlarmMember{MemberID: a.Member, Alarm: a.Type})
		}
	}
	return resp
}

// Alarm does what a user asks of the alarms: GET lists those of a type, all for
// NONE, and does not look at the member id; ACTIVATE raises one, for NONE none;
// DEACTIVATE takes one back, and answers with it if it was raised. What a user
// raises stays until a user takes it back.
func (m *Member) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if r.Action == pb.AlarmRequest_GET {
		if err := m.linearize(ctx); err != nil {
			return nil, err
		}
		return m.alarmsOf(r.Alarm), nil
	}
	return m.changeAlarm(ctx, fsm.KindAlarm, r)
}

// RaiseAlarm has an alarm agreed on that no user asked for, about this member or
// another; where it is raised already nothing changes. Errors: those of a write.
func (m *Member) RaiseAlarm(ctx context.Context, t pb.AlarmType, member uint64) error {
	if _, raised := m.View().Alarms.Get(t, member); raised {
		return nil
	}
	_, err := m.changeAlarm(ctx, fsm.KindOwnAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: t})
	return err
}

// ClearAlarm takes an alarm back that RaiseAlarm raised; one of a user's stays.
// Errors: those of a write.
func (m *Member) ClearAlarm(ctx context.Context, t pb.AlarmType, member uint64) error {
	if a, raised := m.View().Alarms.Get(t, member); !raised || !a.Own {
		return nil
	}
	_, err := m.changeAlarm(ctx, fsm.KindOwnAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: member, Alarm: t})
	return err
}

// changeAlarm has a change agreed, whatever the alarms are.
func (m *Member) changeAlarm(ctx context.Context, kind fsm.Kind, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	resp, err := m.proposer.do(ctx, m.origin(ctx), kind, r)
	if err != nil {
		return nil, err
	}
	out := resp.(*pb.AlarmResponse)
	out.Header = m.Header(m.View().KV.Rev())
	level := zerolog.InfoLevel
	if r.Action == pb.AlarmRequest_ACTIVATE {
		level = zerolog.WarnLevel
	}
	for _, a := range out.Alarms {
		m.cfg.Log.WithLevel(level).Str("action", r.Action.String()).Str("alarm", a.Alarm.String()).Uint64("member", a.MemberID).Bool("by-user", kind == fsm.KindAlarm).Msg("alarm changed")
	}
	return out, nil
}
