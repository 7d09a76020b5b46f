package member

import (
	"context"
	"errors"
	"testing"
	"time"
)

// How long a request may wait counts from its arrival: what waited in the queue
// while batches before it timed out is not given the whole time again.
func TestProposer_waitingInQueueCounts(t *testing.T) {
	m := &Member{cfg: Config{RequestTimeout: time.Minute}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	defer m.cancel()
	p := newProposer(m, 1)
	b := newBatch(1)
	b.begun = time.Now().Add(-2 * time.Minute)
	b.waiters = append(b.waiters, newWaiter())
	ctx, cancel := p.limit(b)
	defer cancel()
	if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a batch that waited longer than it may still has time: %v", err)
	}
	fresh, cancel := p.limit(newBatch(2))
	defer cancel()
	if fresh.Err() != nil {
		t.Fatal("a new batch has no time")
	}
}
