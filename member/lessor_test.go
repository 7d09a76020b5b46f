package member

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-kv/conclave/kv"
)

// testLessor is a lessor with a time of its own, which leads term 1.
type testLessor struct {
	*lessor
	time time.Duration
}

func newTestLessor(clock int64, leases ...kv.Lease) *testLessor {
	l := &testLessor{lessor: newLessor()}
	l.since = func() time.Duration { return l.time }
	l.term, l.confirmed, l.clock = 1, true, clock
	l.leases, l.waiting = map[int64]*tenancy{}, map[int64]chan struct{}{}
	for _, e := range leases {
		l.changed([]kv.LeaseChange{{Lease: e}})
	}
	l.confirm(1, l.gaps.Load())
	return l
}

// run lets time go on as it does with a process that is well.
func (l *testLessor) run(d time.Duration) {
	for ; d > 0; d -= leaseTick {
		l.time += min(d, leaseTick)
		l.tick()
	}
}

func TestLessor_endsLeasesInTime(t *testing.T) {
	l := newTestLessor(5000, kv.Lease{ID: 1, TTL: 3, Deadline: 8000}, kv.Lease{ID: 2, TTL: 60, Deadline: 65000})
	l.run(2900 * time.Millisecond)
	if _, ids := l.ended(10); len(ids) != 0 {
		t.Errorf("%v ended early", ids)
	}
	l.run(100 * time.Millisecond)
	if _, ids := l.ended(10); len(ids) != 1 || ids[0] != 1 {
		t.Errorf("%v ended, want 1", ids)
	}
	if left, _, err := l.remaining(1); left != -1 || err != nil {
		t.Errorf("a lease that ends has %d s, %v", left, err)
	}
	if left, ttl, err := l.remaining(2); left != 57 || ttl != 60 || err != nil {
		t.Errorf("the other has %d of %d s, %v", left, ttl, err)
	}
}

// A renewal that a later leader would not know of waits for the log.
func TestLessor_renewalWithinSlack(t *testing.T) {
	l := newTestLessor(0, kv.Lease{ID: 1, TTL: 10, Deadline: 10000})
	l.run(1500 * time.Millisecond)
	if ttl, _, _, err := l.prolong(1); ttl != 10 || err != nil {
		t.Errorf("a renewal within the slack: %d, %v", ttl, err)
	}
	l.run(time.Second)
	_, news, _, err := l.prolong(1)
	if news == nil || err != nil {
		t.Fatalf("a renewal beyond the slack was answered: %v", err)
	}
	term, clock, ids, _ := l.takeDue(10)
	if term != 1 || clock != 2500 || len(ids) != 1 {
		t.Fatalf("to be agreed in term %d at %d: %v", term, clock, ids)
	}
	l.changed([]kv.LeaseChange{{Lease: kv.Lease{ID: 1, TTL: 10, Deadline: clock + 10000}}})
	<-news
	if ttl, _, _, err := l.prolong(1); ttl != 10 || err != nil {
		t.Errorf("after it was agreed: %d, %v", ttl, err)
	}
}

// A process that stood still ends nothing and promises nothing before it knows
// that it leads.
func TestLessor_gap(t *testing.T) {
	l := newTestLessor(0, kv.Lease{ID: 1, TTL: 3, Deadline: 3000})
	l.run(time.Second)
	l.time += time.Hour
	if _, ids := l.ended(10); len(ids) != 0 {
		t.Errorf("%v ended while nobody could renew", ids)
	}
	if _, _, all, _ := l.prolong(1); all == nil {
		t.Error("a renewal was answered after a gap")
	}
	if busy, confirmed := l.tick(); !busy || confirmed {
		t.Errorf("busy %v, confirmed %v", busy, confirmed)
	}
	l.confirm(1, l.gaps.Load())
	if left, _, err := l.remaining(1); left != 1 || err != nil {
		t.Errorf("after the gap the lease has %d s, %v", left, err)
	}
	if ttl, _, _, err := l.prolong(1); ttl != 3 || err != nil {
		t.Errorf("renewed: %d, %v", ttl, err)
	}
}

// A lease that is being ended is not renewed; the renewal learns what came of it.
func TestLessor_renewalDuringEnd(t *testing.T) {
	l := newTestLessor(0, kv.Lease{ID: 1, TTL: 2, Deadline: 2000}, kv.Lease{ID: 2, TTL: 2, Deadline: 2000})
	l.run(2 * time.Second)
	if _, ids := l.ended(10); len(ids) != 2 {
		t.Fatalf("%v ended", ids)
	}
	_, news, _, _ := l.prolong(1)
	_, _, all, _ := l.prolong(2)
	l.changed([]kv.LeaseChange{{Lease: kv.Lease{ID: 1}, Gone: true}})
	<-news
	if _, _, _, err := l.prolong(1); !errors.Is(err, kv.ErrLeaseNotFound) {
		t.Errorf("after its end: %v", err)
	}
	l.spare(1, []int64{2})
	<-all
	l.drop()
	if _, _, _, err := l.prolong(2); !errors.Is(err, errNotLessor) {
		t.Errorf("after leadership: %v", err)
	}
}

// A grant whose agreed deadline a later leader would not keep to, because the
// agreed clock is late, is answered when an entry has caught up.
func TestLessor_grantBeyondSlack(t *testing.T) {
	l := newTestLessor(0, kv.Lease{ID: 1, TTL: 60, Deadline: 60_000})
	l.run(3 * time.Second) // without an entry of the clock
	l.changed([]kv.LeaseChange{
		{Lease: kv.Lease{ID: 2, TTL: 10, Deadline: 1500 + 10_000}, Granted: true},
		{Lease: kv.Lease{ID: 3, TTL: 10, Deadline: 10_000}, Granted: true},
	})
	if left, _, _, err := l.covered(2); left != 10 || err != nil {
		t.Errorf("a grant within the slack: %d, %v", left, err)
	}
	_, news, _, err := l.covered(3)
	if news == nil || err != nil {
		t.Fatalf("a grant beyond the slack was answered: %v", err)
	}
	_, clock, ids, _ := l.takeDue(10)
	if len(ids) != 1 || ids[0] != 3 {
		t.Fatalf("to be agreed are %v", ids)
	}
	l.run(4 * time.Second) // the entry takes long
	l.changed([]kv.LeaseChange{{Lease: kv.Lease{ID: 3, TTL: 10, Deadline: clock + 10_000}}})
	<-news
	if left, _, _, err := l.covered(3); left != 6 || err != nil {
		t.Errorf("after it was agreed: %d, %v, want the 6 s that are left", left, err)
	}
	if _, _, _, err := l.covered(4); !errors.Is(err, kv.ErrLeaseNotFound) {
		t.Errorf("of a lease that there is not: %v", err)
	}
}

// Where each entry takes longer than the slack, a renewal is answered with what
// is left of the TTL that one has given, and not with nothing for ever.
func TestLessor_renewalOnSlowDisk(t *testing.T) {
	l := newTestLessor(0, kv.Lease{ID: 1, TTL: 10, Deadline: 10_000})
	l.run(3 * time.Second)
	asked := l.lessor.time()
	if _, news, _, err := l.prolongAsked(1, asked); news == nil || err != nil {
		t.Fatalf("a renewal beyond the slack was answered: %v", err)
	}
	_, clock, _, _ := l.takeDue(10)
	l.run(5 * time.Second)
	l.changed([]kv.LeaseChange{{Lease: kv.Lease{ID: 1, TTL: 10, Deadline: clock + 10_000}}})
	if ttl, _, _, err := l.prolongAsked(1, asked); ttl != 7 || err != nil {
		t.Errorf("renewed for %d s, %v, want 7: the TTL and the slack without the 5 s that it took", ttl, err)
	}
	// A renewal that came later has an entry of its own.
	l.run(time.Second)
	if _, news, _, err := l.prolongAsked(1, l.lessor.time()); news == nil || err != nil {
		t.Errorf("the next renewal was answered without an entry: %v", err)
	}
}

// A leader that has just taken over, and is not confirmed yet, has all renewals of
// a call agreed in one entry once it is.
func TestLessor_renewalsOfOneCallTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		var leases []kv.Lease
		var ids []int64
		for id := range int64(n) {
			leases = append(leases, kv.Lease{ID: id, TTL: 10, Deadline: 10_000})
			ids = append(ids, id)
		}
		l := newTestLessor(0, leases...)
		l.run(3 * time.Second)
		l.time += leaseMaxStep // a gap, as at the beginning of a term
		l.tick()
		answers := make(chan []int64, 1)
		go func() { answers <- l.renewAll(t.Context(), append(ids, n)) }()
		synctest.Wait()
		if _, _, due, _ := l.takeDue(n); len(due) != 0 {
			t.Fatalf("%d renewals are to be agreed by a leader that is not confirmed", len(due))
		}
		l.confirm(1, l.gaps.Load())
		synctest.Wait()
		_, clock, due, _ := l.takeDue(n)
		if len(due) != n {
			t.Fatalf("%d of %d renewals are to be agreed", len(due), n)
		}
		var changes []kv.LeaseChange
		for _, e := range leases {
			e.Deadline = clock + 10_000
			changes = append(changes, kv.LeaseChange{Lease: e})
		}
		l.changed(changes)
		want := append(slices.Repeat([]int64{10}, n), 0)
		if ttls := <-answers; !slices.Equal(ttls, want) {
			t.Errorf("answered %v, want 10 s each, and 0 for the lease that there is not", ttls)
		}
	})
}

// What waits when this member's term ends, or the call's time, is left to be asked
// for again; what was answered before is not.
func TestLessor_renewalsThatAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, dropped := range []bool{true, false} {
			l := newTestLessor(0, kv.Lease{ID: 1, TTL: 10, Deadline: 10_000})
			l.run(3 * time.Second)
			l.changed([]kv.LeaseChange{{Lease: kv.Lease{ID: 2, TTL: 10, Deadline: 13_000}, Granted: true}})
			ctx, cancel := context.WithCancel(t.Context())
			answers := make(chan []int64, 1)
			go func() { answers <- l.renewAll(ctx, []int64{1, 2}) }()
			synctest.Wait()
			if dropped {
				l.drop()
			} else {
				cancel()
			}
			if ttls := <-answers; !slices.Equal(ttls, []int64{unanswered, 10}) {
				t.Errorf("term ended: %v; answered %v", dropped, ttls)
			}
			cancel()
		}
	})
}

// A lease whose renewal was asked for in time does not end while that is being agreed.
func TestLessor_renewalUnderWayAtTheEnd(t *testing.T) {
	l := newTestLessor(0, kv.Lease{ID: 1, TTL: 3, Deadline: 3000})
	l.run(2500 * time.Millisecond)
	if _, news, _, err := l.prolong(1); news == nil || err != nil { // half a second before the end
		t.Fatalf("answered at once, %v", err)
	}
	_, clock, ids, _ := l.takeDue(10)
	if len(ids) != 1 {
		t.Fatalf("to be agreed: %v", ids)
	}
	l.run(time.Second) // which agreeing takes
	if _, ids := l.ended(10); len(ids) != 0 {
		t.Errorf("%v ends while its renewal is being agreed", ids)
	}
	l.changed([]kv.LeaseChange{{Lease: kv.Lease{ID: 1, TTL: 3, Deadline: clock + 3000}}})
	if ttl, _, _, err := l.prolong(1); ttl <= 0 || err != nil {
		t.Errorf("after it was agreed: %d, %v", ttl, err)
	}
	l.run(4 * time.Second)
	if _, ids := l.ended(10); len(ids) != 1 {
		t.Errorf("%v ended, want 1", ids)
	}
}
