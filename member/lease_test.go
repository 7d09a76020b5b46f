package member

import (
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
)

// Any member takes any request about leases; the keys go when the lease ends,
// and not before.
func TestLease_throughEveryMember(t *testing.T) {
	members := startCluster(t, 3)
	ctx := t.Context()
	granted, err := members[0].LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 1})
	if err != nil {
		t.Fatal(err)
	}
	id := granted.ID
	if granted.TTL != 2 || id <= 0 {
		t.Errorf("granted %d with the TTL %d, want the least one, 2", id, granted.TTL)
	}
	if _, err := members[1].LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 5, ID: id}); !errors.Is(err, kv.ErrLeaseExists) {
		t.Errorf("a second grant: %v", err)
	}
	if _, err := members[1].LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: maxLeaseTTL + 1}); !errors.Is(err, ErrLeaseTooLong) {
		t.Errorf("a huge TTL: %v", err)
	}
	if _, err := members[2].Put(ctx, &pb.PutRequest{Key: []byte("k"), Lease: id}); err != nil {
		t.Fatal(err)
	}
	var last time.Time
	for i, began := 0, time.Now(); time.Since(began) < 3*time.Second; i++ { // longer than the TTL
		m := members[i%3]
		if resp, err := m.LeaseRenew(ctx, id); err != nil || resp.TTL != 2 {
			t.Fatalf("renewal %d: %v, %v", i, resp, err)
		}
		last = time.Now()
		resp, err := m.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		if err != nil || resp.TTL < 0 || resp.GrantedTTL != 2 || len(resp.Keys) != 1 {
			t.Fatalf("time to live: %v, %v", resp, err)
		}
	}
	for {
		resp, err := members[0].Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		if err != nil {
			t.Fatal(err)
		}
		if resp.Count == 0 {
			break
		}
		if time.Since(last) > 10*time.Second {
			t.Fatal("the lease has not ended")
		}
	}
	if d := time.Since(last); d < 2*time.Second {
		t.Errorf("the key went %v after the last renewal, before the TTL", d)
	}
	leader, _ := leaderAndOther(t, members)
	if n := leader.lessor.expired.Load(); n != 1 {
		t.Errorf("%d leases have ended, as the leader counts", n)
	}
	for i, m := range members {
		if resp, err := m.LeaseRenew(ctx, id); err != nil || resp.TTL != 0 {
			t.Errorf("member %d renews what has ended: %v, %v", i, resp, err)
		}
		if resp, err := m.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id}); err != nil || resp.TTL != -1 || resp.GrantedTTL != 0 {
			t.Errorf("member %d: %v, %v", i, resp, err)
		}
	}
}

// A new leader keeps what was promised.
func TestLease_leaderChange(t *testing.T) {
	members := startCluster(t, 3)
	ctx := t.Context()
	granted, err := members[0].LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 3})
	if err != nil {
		t.Fatal(err)
	}
	renewed := time.Now()
	if resp, err := members[0].LeaseRenew(ctx, granted.ID); err != nil || resp.TTL != 3 {
		t.Fatalf("%v, %v", resp, err)
	}
	old, to := leaderAndOther(t, members)
	moveLeader(t, old, to)
	for to.View().KV.LeaseCount() > 0 {
		if time.Since(renewed) > 20*time.Second {
			t.Fatal("the lease has not ended under the new leader")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if d := time.Since(renewed); d < 3*time.Second {
		t.Errorf("the lease ended %v after its renewal", d)
	}
}

// While a user's CORRUPT alarm is raised no lease ends, since keys do not
// change, and nothing is proposed in vain. When it goes, leases end.
func TestLease_corruptAlarm(t *testing.T) {
	f := startCluster(t, 1)[0]
	ctx := limited(t)
	alarm := func(action pb.AlarmRequest_AlarmAction) {
		t.Helper()
		if _, err := f.Alarm(ctx, &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_CORRUPT}); err != nil {
			t.Fatal(err)
		}
	}
	short, err := f.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 2})
	if err != nil {
		t.Fatal(err)
	}
	long, err := f.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 600})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(ctx, &pb.PutRequest{Key: []byte("k"), Lease: short.ID}); err != nil {
		t.Fatal(err)
	}
	alarm(pb.AlarmRequest_ACTIVATE)
	if _, err := f.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 600}); !errors.Is(err, ErrCorruptCluster) {
		t.Errorf("a grant: %v", err)
	}
	if _, err := f.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: long.ID}); !errors.Is(err, ErrCorruptCluster) {
		t.Errorf("a revocation: %v", err)
	}
	until := func(what string, cond func() bool) {
		t.Helper()
		for !cond() {
			if ctx.Err() != nil {
				t.Fatalf("waited too long for %s", what)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	until("the lease to be over", f.lessor.anyEnded)
	applied, clock := f.View().Applied, f.View().KV.LeaseClock()
	until("the clock", func() bool { return f.View().KV.LeaseClock() > clock+3000 })
	// An entry a second is the clock's.
	if n := f.View().Applied - applied; n > 6 {
		t.Errorf("%d entries in 3 s", n)
	}
	if resp, err := f.LeaseRenew(ctx, long.ID); err != nil || resp.TTL != 600 {
		t.Errorf("a renewal: %v, %v", resp, err)
	}
	if n := f.View().KV.LeaseCount(); n != 2 {
		t.Errorf("%d leases are left of 2", n)
	}
	// The end of a lease that was on its way when the alarm came.
	term, ids := f.lessor.ended(1)
	if len(ids) != 1 || !f.endAll(term, ids) {
		t.Fatalf("the end of %v", ids)
	}
	alarm(pb.AlarmRequest_DEACTIVATE)
	until("the lease to end", func() bool { return f.View().KV.LeaseCount() == 1 })
	if resp, err := f.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil || resp.Count != 0 {
		t.Errorf("its key: %v, %v", resp, err)
	}
}

// Where there are no leases at all, and the leader's clock stands still, a
// renewal learns at once that there is no such lease.
func TestLease_renewalWithoutAny(t *testing.T) {
	all := startCluster(t, 3)
	for i, f := range all {
		if resp, err := f.LeaseRenew(limited(t), 77); err != nil || resp.TTL != 0 {
			t.Errorf("member %d: %v, %v", i, resp, err)
		}
		if resp, err := f.LeaseTimeToLive(limited(t), &pb.LeaseTimeToLiveRequest{ID: 77}); err != nil || resp.TTL != -1 {
			t.Errorf("member %d: %v, %v", i, resp, err)
		}
	}
}

// A member that knows no leader says so when the time is up, as etcd does.
func TestLease_withoutLeader(t *testing.T) {
	all := newFixtures(t, 3)
	for _, f := range all {
		f.cfg.RequestTimeout = 2 * time.Second
	}
	all[0].begin(t)
	ctx := limited(t)
	if _, err := all[0].LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 1}); !errors.Is(err, ErrNoLeader) {
		t.Errorf("time to live: %v", err)
	}
	if _, err := all[0].LeaseRenew(ctx, 1); !errors.Is(err, ErrNoLeader) {
		t.Errorf("renewal: %v", err)
	}
}

// An answer to who leads that was there before the process stood still says nothing
// about what was meanwhile.
func TestLease_confirmedBeforeAGap(t *testing.T) {
	f := startCluster(t, 1)[0]
	l := f.lessor
	for limit := limited(t); l.leads() == 0; time.Sleep(time.Millisecond) {
		if limit.Err() != nil {
			t.Fatal("no leader")
		}
	}
	term := l.leads()
	ticked, confirmed := make(chan struct{}), make(chan bool)
	l.mu.Lock()
	go func() {
		l.tick() // lead's first thing after the gap
		close(ticked)
	}()
	time.Sleep(100 * time.Millisecond)
	go func() { confirmed <- f.confirmLead(term) }()
	time.Sleep(300 * time.Millisecond) // it asks, has the answer, and waits behind tick for mu, which nothing tells
	since := l.since
	l.since = func() time.Duration { return since() + time.Hour }
	l.mu.Unlock()
	<-ticked
	<-confirmed
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.confirmed {
		t.Error("promises are made after a gap of an hour, in which others may have led")
	}
}

// A lease that was revoked and granted anew, while its end was about to be agreed, is
// another lease.
func TestLease_grantedAnewWhileItEnds(t *testing.T) {
	f := startCluster(t, 1)[0]
	ctx := limited(t)
	if _, err := f.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 5}); err != nil {
		t.Fatal(err)
	}
	// While keys do not change endLeases takes no lease, so that it is this test that does.
	corrupt := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: f.cfg.ID, Alarm: pb.AlarmType_CORRUPT}
	if _, err := f.Alarm(ctx, corrupt); err != nil {
		t.Fatal(err)
	}
	var term uint64
	var ids []int64
	for len(ids) == 0 { // what endLeases does, one step after the other
		if ctx.Err() != nil {
			t.Fatal("the lease does not end")
		}
		term, ids = f.lessor.ended(maxEnding)
		time.Sleep(time.Millisecond)
	}
	corrupt.Action = pb.AlarmRequest_DEACTIVATE
	if _, err := f.Alarm(ctx, corrupt); err != nil {
		t.Fatal(err)
	}
	// Meanwhile it confirms its lead, or has the end of others agreed.
	if _, err := f.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 7}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 600}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(ctx, &pb.PutRequest{Key: []byte("k"), Lease: 7}); err != nil {
		t.Fatal(err)
	}
	f.endAll(term, ids)
	if resp, err := f.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil || resp.Count != 1 {
		t.Errorf("the key of a lease with 600 s to live is gone: %v, %v", resp, err)
	}
}
