package member

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What waits for a call to the leader is bounded, and several renewals of a
// lease are one.
func TestRenewals_boundedQueue(t *testing.T) {
	f := &renewals{calls: renewCalls} // all calls are under way
	for id := range int64(maxRenewing) {
		if _, err := f.enqueue(renewing{leader: 1, id: id}); err != nil {
			t.Fatalf("renewal %d: %v", id, err)
		}
	}
	first := f.queue[0]
	if again, err := f.enqueue(renewing{leader: 1, id: 0}); again != first || err != nil {
		t.Errorf("a second renewal of a lease is %p, %v, want %p", again, err, first)
	}
	if _, err := f.enqueue(renewing{leader: 1, id: maxRenewing}); !errors.Is(err, ErrTooManyRequests) {
		t.Errorf("one more: %v", err)
	}
	if batch := f.take(); len(batch) != maxForwarded || batch[0] != first {
		t.Fatalf("a call takes %d", len(batch))
	}
	// What a call has taken may have been renewed already.
	if again, err := f.enqueue(renewing{leader: 1, id: 0}); again == first || err != nil {
		t.Errorf("a renewal joined one that a call has taken: %v", err)
	}
	if _, err := f.enqueue(renewing{leader: 2, id: 1}); err != nil {
		t.Errorf("a renewal for another leader: %v", err)
	}
	taken := maxForwarded
	for batch := f.take(); len(batch) > 0; batch = f.take() {
		for _, r := range batch {
			if r.leader != batch[0].leader {
				t.Fatal("a call is for two leaders")
			}
		}
		taken += len(batch)
	}
	if want := maxRenewing + 2; taken != want || len(f.queued) != 0 || f.calls != renewCalls-1 {
		t.Errorf("%d renewals were taken, want %d; %d are left, %d calls", taken, want, len(f.queued), f.calls)
	}
}

// Renewals that were begun are answered, whatever becomes of the call that took
// them: the one asked leads no more, or never did, or the connection breaks.
func TestRenewals_begunGoOn(t *testing.T) {
	all := startCluster(t, 3)
	const n = 100
	ids := make([]int64, n)
	for i := range ids {
		resp, err := all[0].LeaseGrant(limited(t), &pb.LeaseGrantRequest{TTL: 600})
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = resp.ID
	}
	for round := range 5 {
		leader, follower := leaderAndOther(t, all)
		var third *fixture
		for _, f := range all {
			if f != leader && f != follower {
				third = f
			}
		}
		var waits []func(context.Context) (*pb.LeaseKeepAliveResponse, error)
		begin := func() {
			for _, id := range ids {
				waits = append(waits, follower.BeginLeaseRenew(id), leader.BeginLeaseRenew(id))
			}
		}
		begin()
		follower.hangUp()
		begin()
		// It may not do it at once, with sessions that form anew.
		for err := errors.New("not tried"); err != nil && leader.Leader() == leader.ID(); time.Sleep(time.Millisecond) {
			err = leader.MoveLeader(limited(t), third.ID())
		}
		begin()
		for i, wait := range waits {
			if resp, err := wait(limited(t)); err != nil || resp.TTL != 600 {
				t.Fatalf("round %d, renewal %d: %v, %v", round, i, resp, err)
			}
		}
		// One that follows is asked: what it does not answer goes on, elsewhere.
		leader, follower = leaderAndOther(t, all)
		for _, f := range all {
			if f != leader && f != follower {
				r, err := follower.renewals.enqueue(renewing{leader: f.ID(), id: ids[round], begun: true})
				if err != nil {
					t.Fatal(err)
				}
				<-r.done
				if r.ttl != 600 || r.err != nil {
					t.Errorf("asked of member %d: %d, %v", f.ID(), r.ttl, r.err)
				}
			}
		}
	}
	resp, err := all[1].BeginLeaseRenew(77)(limited(t))
	if err != nil || resp.TTL != 0 {
		t.Errorf("of a lease that there is not: %v, %v", resp, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, follower := leaderAndOther(t, all)
	if _, err := follower.BeginLeaseRenew(77)(ctx); err == nil {
		t.Error("who does not wait has an answer")
	}
	for _, f := range all {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			f.renewals.mu.Lock()
			slow := f.renewals.slow
			f.renewals.mu.Unlock()
			if slow == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d renewals go on for ever", slow)
			}
		}
	}
}
