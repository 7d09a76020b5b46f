package member

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func TestCost_asEtcdReckons(t *testing.T) {
	op := func(r *pb.RequestOp) []*pb.RequestOp { return []*pb.RequestOp{r} }
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("abc"), Value: []byte("de")}}}
	del := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{}}}
	nested := func(inner *pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: op(inner)}}}
	}
	for _, c := range []struct {
		name string
		msg  proto.Message
		want int64
	}{
		{"put", &pb.PutRequest{Key: []byte("k"), Value: []byte("vv")}, 259},
		{"lease", &pb.LeaseGrantRequest{}, 64},
		{"delete", &pb.DeleteRangeRequest{}, 0},
		{"compaction", &pb.CompactionRequest{}, 0},
		{"txn that deletes", &pb.TxnRequest{Success: op(del), Failure: op(nested(del))}, 0},
		{"txn that puts", &pb.TxnRequest{Success: []*pb.RequestOp{put, put}, Failure: op(put)}, 522},
		{"txn that puts otherwise", &pb.TxnRequest{Success: op(del), Failure: op(put)}, 261},
		{"put inside", &pb.TxnRequest{Success: op(nested(nested(put)))}, 261},
	} {
		if got := cost(c.msg); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// startSmall starts members with a quota, which look often.
func startSmall(t *testing.T, n int, quota int64) []*fixture {
	t.Helper()
	all := newFixtures(t, n)
	for _, f := range all {
		f.space.quota = quota
		f.space.times = spaceTimes{look: 10 * time.Millisecond, roomy: 100 * time.Millisecond, away: 200 * time.Millisecond}
		f.begin(t)
	}
	leaderAndOther(t, all)
	return all
}

// fill writes a key again and again until that is refused.
func fill(t *testing.T, f *fixture) {
	t.Helper()
	value := make([]byte, 8<<10)
	for n := range 1000 {
		_, err := f.Put(limited(t), &pb.PutRequest{Key: []byte("fill"), Value: value})
		if errors.Is(err, ErrNoSpace) {
			t.Logf("full after %d values: %d bytes", n, f.space.used())
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("never full: %d bytes", f.space.used())
}

// awaitAlarms waits until so many alarms are raised.
func awaitAlarms(t *testing.T, f *fixture, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); len(f.alarmsOf(pb.AlarmType_NOSPACE).Alarms) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("alarms are %v, not %d; %d bytes of %d", f.alarmsOf(pb.AlarmType_NOSPACE), n, f.space.used(), f.space.quota)
		}
	}
}

// compactAll makes the history before now go away everywhere.
func compactAll(t *testing.T, f *fixture) {
	t.Helper()
	if _, err := f.Compact(limited(t), &pb.CompactionRequest{Revision: f.View().KV.Rev(), Physical: true}); err != nil {
		t.Fatal(err)
	}
}

// Whoever is full says so before it refuses, all refuse, and what makes room
// passes; then writes are taken again without anybody having to say so.
func TestSpace_fullAndBack(t *testing.T) {
	all := startSmall(t, 3, 256<<10)
	for round := range 3 {
		f := all[round]
		fill(t, f)
		if got := f.alarmsOf(pb.AlarmType_NOSPACE).Alarms; len(got) == 0 {
			t.Error("a write was refused and there is no alarm")
		}
		for i, g := range all {
			if _, err := g.Put(limited(t), &pb.PutRequest{Key: []byte("k")}); !errors.Is(err, ErrNoSpace) {
				t.Errorf("member %d: %v, want %v", i, err, ErrNoSpace)
			}
			if _, err := g.DeleteRange(limited(t), &pb.DeleteRangeRequest{Key: []byte(fmt.Sprint(i))}); err != nil {
				t.Error(err)
			}
		}
		compactAll(t, f)
		awaitAlarms(t, f, 0)
		if _, err := f.Put(limited(t), &pb.PutRequest{Key: []byte("after")}); err != nil {
			t.Errorf("put when there is space again: %v", err)
		}
	}
}

// What transactions in transactions put was not counted, and so had no quota.
func TestPR22139_nestedTransactionsAndTheQuota(t *testing.T) {
	f := startSmall(t, 1, 256<<10)[0]
	fill(t, f)
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}}}
	for depth := range 4 {
		if _, err := f.Txn(limited(t), &pb.TxnRequest{Success: []*pb.RequestOp{put}}); !errors.Is(err, ErrNoSpace) {
			t.Errorf("%d deep: %v", depth, err)
		}
		put = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{put}}}}
	}
}

// An alarm is not taken back at once when there is space: who made it finds the
// alarm when they come to disarm it. Nor while there is but little.
func TestSpace_alarmStaysAWhile(t *testing.T) {
	all := newFixtures(t, 1)
	f := all[0]
	f.space.quota, f.space.times.look = 256<<10, time.Hour // the test looks
	f.begin(t)
	leaderAndOther(t, all)
	fill(t, f)
	compactAll(t, f)
	start := time.Now()
	look := func(after time.Duration, want int) {
		t.Helper()
		f.space.look(limited(t), start.Add(after))
		if got := len(f.alarmsOf(pb.AlarmType_NOSPACE).Alarms); got != want {
			t.Errorf("%v after there was space: %d alarms, want %d; %d bytes", after, got, want, f.space.used())
		}
	}
	look(0, 1)
	f.space.quota = f.space.used() + f.space.used()/30 // little
	look(20*time.Second, 1)
	f.space.quota = 256 << 10
	look(30*time.Second, 1)
	look(39*time.Second, 1)
	look(40*time.Second, 0)
}

// Alarms of those who will not take them back are taken back by the leader; a
// user's stays.
func TestSpace_alarmsOfOthers(t *testing.T) {
	all := startSmall(t, 3, -1)
	lead, other := leaderAndOther(t, all)
	ctx := limited(t)
	if _, err := lead.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 98, Alarm: pb.AlarmType_NOSPACE}); err != nil {
		t.Fatal(err)
	}
	if err := lead.RaiseAlarm(ctx, pb.AlarmType_NOSPACE, 99); err != nil {
		t.Fatal(err)
	}
	awaitAlarms(t, lead, 1)
	if err := lead.RaiseAlarm(ctx, pb.AlarmType_NOSPACE, other.ID()); err != nil {
		t.Fatal(err)
	}
	awaitAlarms(t, lead, 1) // other is not full, and takes it back itself
	if _, err := lead.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 98, Alarm: pb.AlarmType_NOSPACE}); err != nil {
		t.Fatal(err)
	}
	other.peer.Close()
	if err := lead.RaiseAlarm(ctx, pb.AlarmType_NOSPACE, other.ID()); err != nil {
		t.Fatal(err)
	}
	awaitAlarms(t, lead, 0)
}

// A storm of grants ends at the quota, and what was granted can be revoked then.
func TestSpace_stormOfGrants(t *testing.T) {
	f := startSmall(t, 1, 256<<10)[0]
	ctx := limited(t)
	var granted atomic.Int64
	var last atomic.Int64
	var storm sync.WaitGroup
	for range 16 {
		storm.Go(func() {
			for granted.Load() < 1<<20 {
				resp, err := f.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 3600})
				if errors.Is(err, ErrNoSpace) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				last.Store(resp.ID)
				granted.Add(1)
			}
		})
	}
	storm.Wait()
	t.Logf("%d leases, %d bytes in use", granted.Load(), f.space.used())
	if n := granted.Load(); n > 256<<10/32 || n < 256<<10/512 {
		t.Errorf("%d leases were granted with 256 KiB", n)
	}
	if n := f.View().KV.LeaseCount(); int64(n) != granted.Load() {
		t.Errorf("there are %d leases, and %d were granted", n, granted.Load())
	}
	if _, err := f.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: last.Load()}); err != nil {
		t.Errorf("a revocation: %v", err)
	}
}
