package member

import (
	"errors"
	"testing"
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
