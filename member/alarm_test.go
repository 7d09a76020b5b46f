package member

import (
	"errors"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What one member is told, all know, and a write that comes in anywhere
// afterwards is refused, or let pass.
func TestAlarm_knownEverywhere(t *testing.T) {
	all := startCluster(t, 3)
	ctx := limited(t)
	one := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 123, Alarm: pb.AlarmType_NOSPACE}
	put := &pb.PutRequest{Key: []byte("k")}
	for i, f := range all {
		next := all[(i+1)%len(all)]
		one.Action = pb.AlarmRequest_ACTIVATE
		if _, err := f.Alarm(ctx, one); err != nil {
			t.Fatal(err)
		}
		if _, err := next.Put(ctx, put); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("put while there is an alarm: %v", err)
		}
		if _, err := next.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		if err := next.ClearAlarm(ctx, pb.AlarmType_NOSPACE, 123); err != nil {
			t.Fatal(err)
		}
		got, err := next.Alarm(ctx, &pb.AlarmRequest{})
		if err != nil || len(got.Alarms) != 1 || got.Alarms[0].MemberID != 123 {
			t.Fatalf("an alarm of a user is gone: %v %v", got, err)
		}
		st, err := next.Status(ctx)
		if err != nil || len(st.Errors) != 1 || strings.TrimSpace(st.Errors[0]) != "memberID:123 alarm:NOSPACE" {
			t.Fatalf("status: %v %v", st, err)
		}
		one.Action = pb.AlarmRequest_DEACTIVATE
		if got, err := f.Alarm(ctx, one); err != nil || len(got.Alarms) != 1 {
			t.Fatalf("disarm: %v %v", got, err)
		}
		if _, err := next.Put(ctx, put); err != nil {
			t.Fatalf("put when the alarm was disarmed: %v", err)
		}
	}
}

// An alarm that no user raised is taken back by whoever knows that it is over.
func TestRaiseAlarm_andClear(t *testing.T) {
	all := startCluster(t, 1)
	ctx, f := limited(t), all[0]
	for range 2 {
		if err := f.RaiseAlarm(ctx, pb.AlarmType_CORRUPT, 5); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k")}); err != nil {
		t.Fatalf("delete beside a member that is corrupt: %v", err)
	}
	for range 2 {
		if err := f.ClearAlarm(ctx, pb.AlarmType_CORRUPT, 5); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
}
