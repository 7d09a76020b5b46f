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
	ctx := limited(t)
	const n, rounds = 100, 6
	ids := make([]int64, n)
	for i := range ids {
		resp, err := all[0].LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 600})
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = resp.ID
	}
	for round := range rounds {
		leader, follower := leaderAndOther(t, all)
		var third *fixture
		for _, f := range all {
			if f != leader && f != follower {
				third = f
			}
		}
		var waits []func() (*pb.LeaseKeepAliveResponse, error)
		begin := func() {
			for _, id := range ids {
				waits = append(waits, follower.BeginLeaseRenew(ctx, id), leader.BeginLeaseRenew(ctx, id))
			}
		}
		begin()
		if round < rounds-1 {
			moveLeader(t, leader, third)
		} else { // at last, since a leader moves only to whom it has a session with
			follower.hangUp()
		}
		begin()
		for i, wait := range waits {
			if resp, err := wait(); err != nil || resp.TTL != 600 {
				t.Fatalf("round %d, renewal %d: %v, %v", round, i, resp, err)
			}
		}
		// One that follows is asked: what it does not answer goes on, elsewhere.
		leader, follower = leaderAndOther(t, all)
		for _, f := range all {
			if f != leader && f != follower {
				b := &begun{ctx: ctx, until: time.Now().Add(time.Minute), id: ids[round], done: make(chan struct{})}
				if err := follower.renewals.enqueueFor(renewing{f.ID(), ids[round]}, b); err != nil {
					t.Fatal(err)
				}
				<-b.done
				if b.ttl != 600 || b.err != nil {
					t.Errorf("asked of member %d: %d, %v", f.ID(), b.ttl, b.err)
				}
			}
		}
	}
	resp, err := all[1].BeginLeaseRenew(ctx, 77)()
	if err != nil || resp.TTL != 0 {
		t.Errorf("of a lease that there is not: %v, %v", resp, err)
	}
}

// A renewal that was begun ends with its context, also where it would go on.
func TestRenewals_begunEnds(t *testing.T) {
	f := newFixtures(t, 3)[0] // alone, without a leader
	f.begin(t)
	ctx, cancel := context.WithCancel(t.Context())
	b := f.renewals.begin(ctx, 1)
	wait := f.BeginLeaseRenew(ctx, 1)
	cancel()
	if _, err := wait(); err == nil {
		t.Error("who does not wait has an answer")
	}
	<-b.done
	if b.err == nil {
		t.Error("a renewal without a leader has an answer")
	}
}
