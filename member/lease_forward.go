package member

import (
	"context"
	"encoding/binary"
	"sync"

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
	// which are some 10 MB then, and those whose renewal goes on by itself.
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
	slow   int // renewals that go on by themselves
}

// renewing is what a renewal asks, and whom. One that was only begun goes on until
// there is an answer; for others that is the affair of who waits.
type renewing struct {
	leader uint64
	id     int64
	begun  bool
}

type renewal struct {
	renewing
	ttl  int64
	err  error
	done chan struct{}
}

// renew renews a lease at the leader. A lease that there is not is
// kv.ErrLeaseNotFound; with ErrTooManyRequests the leader was not asked; another
// error means that it gave no answer.
func (f *renewals) renew(ctx context.Context, leader uint64, id int64) (int64, error) {
	r, err := f.enqueue(renewing{leader: leader, id: id})
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

// begin renews a lease for as long as a request may take, whoever leads: done is
// closed when ttl or err is there.
func (f *renewals) begin(id int64) *renewal {
	what := renewing{id: id, begun: true}
	if lead, _ := f.m.node.Leadership(); lead.Leader != 0 && lead.Leader != f.m.cfg.ID {
		what.leader = lead.Leader
		r, err := f.enqueue(what)
		if err == nil {
			return r
		}
		r = &renewal{err: err, done: make(chan struct{})}
		close(r.done)
		return r
	}
	r := &renewal{renewing: what, done: make(chan struct{})}
	f.goOn(r)
	return r
}

// goOn has a renewal that was begun done with all patience, beside others.
func (f *renewals) goOn(r *renewal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.slow >= maxRenewing {
		r.err = ErrTooManyRequests
		close(r.done)
		return
	}
	f.slow++
	f.m.proposer.work.Add(1)
	go func() {
		defer f.m.proposer.work.Done()
		r.ttl, r.err = f.m.renewSlowly(f.m.ctx, r.id)
		close(r.done)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.slow--
	}()
}

// enqueue returns the renewal that waits already, or a new one. One that nobody
// waits for any more keeps its place until a call takes it.
func (f *renewals) enqueue(what renewing) (*renewal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
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
		if r.err != nil && r.begun {
			f.goOn(r)
		} else {
			close(r.done)
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
