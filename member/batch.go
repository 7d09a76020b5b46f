package member

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// Bounds of one batch. A batch becomes one raft entry, so they also bound what
// one follower message and one fsync carry.
const (
	batchBytes    = 1 << 20
	batchRequests = 4096
)

// batch is a group of requests that is agreed and applied as one log entry.
type batch struct {
	id      uint64
	begun   time.Time // of its oldest request; how long it may wait counts from here
	payload []byte    // encoded requests without the entry's header
	waiters []*waiter
	weight  weight // of all

	mu       sync.Mutex
	term     uint64        // term of the newest attempt, 0 before the first
	lost     chan struct{} // closed when that attempt will never be applied
	done     chan struct{} // closed when the results were delivered
	finished bool
}

func newBatch(id uint64) *batch {
	return &batch{id: id, begun: time.Now(), done: make(chan struct{})}
}

func (b *batch) full() bool {
	return b.size() >= batchBytes || len(b.waiters) >= batchRequests || b.weight.keys >= heavyKeys
}

// size is what the batch takes, in bytes, before and after it is applied.
func (b *batch) size() int { return len(b.payload) + b.weight.bytes }

// attempt notes that the batch is now proposed in term, and returns the channel
// that is closed when that cannot succeed any more.
func (b *batch) attempt(term uint64) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.term, b.lost = term, make(chan struct{})
	return b.lost
}

// lose ends the attempt of term: the entry was skipped, or a later term opened
// without it.
func (b *batch) lose(term uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished || b.lost == nil || b.term > term {
		return
	}
	close(b.lost)
	b.lost = nil
}

// refused ends the newest attempt as one that definitely was not proposed.
func (b *batch) refused() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = nil
}

// underWay reports whether the newest attempt may be in the log, or come there.
func (b *batch) underWay() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost != nil
}

// deliver answers everybody once.
func (b *batch) deliver(results []fsm.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished {
		drop(results)
		return
	}
	b.finished = true
	for i, w := range b.waiters {
		w.answer(results[i])
	}
	close(b.done)
}

// fail answers everybody with err, unless the results came first.
func (b *batch) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished {
		return
	}
	b.finished = true
	for _, w := range b.waiters {
		w.answer(fsm.Result{Err: err})
	}
	close(b.done)
}

// drop gives up results that nobody waits for.
func drop(results []fsm.Result) {
	for _, r := range results {
		r.Owed.Drop()
	}
}

// A waiter waits for the result of one request, and may leave before.
type waiter struct {
	result chan fsm.Result // with room for it
	left   atomic.Bool
	turn   heavy // that the answer ends; nil: none
}

func newWaiter() *waiter { return &waiter{result: make(chan fsm.Result, 1)} }

// answer is called once.
func (w *waiter) answer(r fsm.Result) {
	w.endTurn()
	w.result <- r
	if w.left.Load() {
		w.clear()
	}
}

// leave gives up a result that has not come, or has come just now.
func (w *waiter) leave() {
	w.left.Store(true)
	w.clear()
}

func (w *waiter) clear() {
	select {
	case r := <-w.result:
		r.Owed.Drop()
	default:
	}
}

// buffers are what a batch leaves to a later one.
type buffers struct {
	payload []byte
	waiters []*waiter
}

// release takes the buffers of a batch that was answered.
func (b *batch) release() buffers {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := buffers{b.payload[:0], b.waiters[:0]}
	clear(b.waiters)
	b.payload, b.waiters = nil, nil
	return old
}
