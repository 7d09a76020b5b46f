package member

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore"
)

const (
	// renewCalls is how many calls with renewals are under way to the leader, so
	// that one that waits for a lease's end holds up few others.
	renewCalls = 8
	// maxForwarded bounds the renewals of one call.
	maxForwarded = 1024
	// maxRenewing bounds the leases whose renewal waits for a call to take it,
	// which are some 10 MB then.
	maxRenewing = 64 << 10
	// unanswered stands for a renewal that is to be asked for again.
	unanswered = -1
)

// renewals brings renewals to the leader, many in one call. Renewals of one
// lease that wait for the same call are one.
type renewals struct {
	m *Member

	mu     sync.Mutex
	queue  []*renewal // that no call has taken
	queued map[renewing]*renewal
	calls  int
}

// renewing is what a renewal asks, and whom.
type renewing struct {
	leader uint64
	id     int64
}

type renewal struct {
	renewing
	ttl   int64
	err   error
	done  chan struct{}
	begun []*begun // which go on if this gives no answer
}

// renew renews a lease at the leader. A lease that there is not is
// kv.ErrLeaseNotFound; with ErrTooManyRequests the leader was not asked; another
// error means that it gave no answer.
func (f *renewals) renew(ctx context.Context, leader uint64, id int64) (int64, error) {
	f.mu.Lock()
	r, err := f.enqueue(renewing{leader, id})
	f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	select {
	case <-r.done:
		return r.ttl, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// A begun is a renewal that goes on, whoever leads, until ctx or the time that a
// request may take ends.
type begun struct {
	ctx   context.Context
	until time.Time
	id    int64
	ttl   int64
	err   error
	done  chan struct{}
}

// begin begins a renewal, and does not wait for anything. If another member leads it
// shares a call with others.
func (f *renewals) begin(ctx context.Context, id int64) *begun {
	b := &begun{ctx: ctx, until: time.Now().Add(f.m.cfg.RequestTimeout), id: id, done: make(chan struct{})}
	if lead, _ := f.m.node.Leadership(); lead.Leader == 0 || lead.Leader == f.m.cfg.ID {
		f.goOn(b)
	} else if err := f.enqueueFor(renewing{lead.Leader, id}, b); err != nil {
		b.err = err
		close(b.done)
	}
	return b
}

// enqueueFor has b share what enqueue returns.
func (f *renewals) enqueueFor(what renewing, b *begun) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.enqueue(what)
	if err == nil {
		r.begun = append(r.begun, b)
	}
	return err
}

// goOn does a renewal with all patience, beside others.
func (f *renewals) goOn(b *begun) {
	f.m.proposer.work.Add(1)
	go func() {
		defer f.m.proposer.work.Done()
		ctx, cancel := context.WithDeadline(b.ctx, b.until)
		defer cancel()
		b.ttl, b.err = f.m.renewSlowly(ctx, b.id)
		close(b.done)
	}()
}

// enqueue returns the renewal that waits already, or a new one. One that nobody
// waits for any more keeps its place until a call takes it. mu is held.
func (f *renewals) enqueue(what renewing) (*renewal, error) {
	if r := f.queued[what]; r != nil {
		return r, nil
	}
	if len(f.queue) >= maxRenewing {
		return nil, ErrTooManyRequests
	}
	r := &renewal{renewing: what, done: make(chan struct{})}
	if f.queued == nil {
		f.queued = make(map[renewing]*renewal)
	}
	f.queued[what] = r
	f.queue = append(f.queue, r)
	if f.calls < renewCalls {
		f.calls++
		f.m.proposer.work.Add(1)
		go func() {
			defer f.m.proposer.work.Done()
			f.run()
		}()
	}
	return r, nil
}

// run calls until nothing waits.
func (f *renewals) run() {
	for {
		batch := f.take()
		if len(batch) == 0 {
			return
		}
		f.call(batch)
	}
}

// take returns what one call takes. With nothing, the caller ends.
func (f *renewals) take() []*renewal {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < min(len(f.queue), maxForwarded) && f.queue[n].leader == f.queue[0].leader {
		delete(f.queued, f.queue[n].renewing)
		n++
	}
	if n == 0 {
		f.calls--
		f.queue, f.queued = nil, nil
		return nil
	}
	batch := f.queue[:n:n]
	f.queue = f.queue[n:]
	return batch
}

func (f *renewals) call(batch []*renewal) {
	ctx, cancel := f.m.bounded(f.m.ctx)
	defer cancel()
	var request []byte
	for _, r := range batch {
		request = appendIDs(request, r.id)
	}
	answer, err := f.m.callLeader(ctx, batch[0].leader, raftstore.KindLeaseRenew, request)
	var ttls []int64
	if err == nil {
		if ttls, err = decodeIDs(answer); err == nil && len(ttls) != len(batch) {
			err = errMalformed
		}
	}
	for i, r := range batch {
		switch {
		case err != nil:
			r.err = err
		case ttls[i] == unanswered:
			r.err = errNotLessor
		case ttls[i] == 0:
			r.err = kv.ErrLeaseNotFound
		default:
			r.ttl = ttls[i]
		}
		close(r.done)
		for _, b := range r.begun {
			if r.err != nil {
				f.goOn(b)
				continue
			}
			b.ttl = r.ttl
			close(b.done)
		}
	}
}

// answerRenew renews leases for a peer.
func (m *Member) answerRenew(ctx context.Context, _ uint64, payload []byte) ([]byte, error) {
	ids, err := decodeIDs(payload)
	if err != nil || len(ids) > maxForwarded {
		return nil, errMalformed
	}
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	return appendIDs(nil, m.lessor.renewAll(ctx, ids)...), nil
}

func appendIDs(b []byte, ids ...int64) []byte {
	for _, id := range ids {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	return b
}

func decodeIDs(b []byte) ([]int64, error) {
	if len(b)%8 != 0 {
		return nil, errMalformed
	}
	ids := make([]int64, len(b)/8)
	for i := range ids {
		ids[i] = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	return ids, nil
}
