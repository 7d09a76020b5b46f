package member

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

const (
	// inFlight is how many batches are proposed at most before the first is answered,
	// and fewInFlight how many without a pause of batchPause since the last: a batch
	// costs the members much the same whatever is in it, so that fewer and larger ones
	// are cheaper; and where an answer takes long nobody waits for it.
	inFlight    = 4
	fewInFlight = 2
	batchPause  = 5 * time.Millisecond
	// queueBytes bounds the requests that wait for a batch of theirs to leave.
	queueBytes = 64 << 20
	// retryPropose is the pause before a batch that was definitely not
	// proposed is tried again, unless leadership changes first.
	retryPropose = 10 * time.Millisecond
)

// proposer collects concurrent requests into batches and has each batch
// applied, keeping a few of them in flight.
//
// A batch is proposed for one term and skipped by every member in any other,
// so that it can be proposed again without being applied twice as soon as a
// later term opens without it.
type proposer struct {
	m    *Member
	wake chan struct{} // a batch has its first request; with room for all who send
	work sync.WaitGroup

	mu     sync.Mutex
	queue  []*batch // filled in order; the last one is open
	queued int      // bytes in queue
	nextID uint64
	flying map[uint64]*batch // proposed by this member, not answered
	left   time.Time         // when the last one left the queue
	opened uint64            // newest term known to have begun
	spares []buffers         // of batches that were answered; one for each in flight
	ended  bool              // nothing leaves the queue any more

	pending   atomic.Int64  // requests that wait for their outcome
	failed    atomic.Uint64 // requests that got none
	unapplied atomic.Int64  // bytes of requests taken and not applied yet, about
}

func newProposer(m *Member, firstID uint64) *proposer {
	return &proposer{
		m:      m,
		wake:   make(chan struct{}, inFlight),
		nextID: firstID,
		flying: make(map[uint64]*batch),
	}
}

// waiters are reused: one request, one result.
var waiterPool = sync.Pool{New: func() any { return newWaiter() }}

// do has one request agreed and applied, and returns its result; origin is who
// asks. When ctx ends first the outcome is unknown.
func (p *proposer) do(ctx context.Context, origin fsm.Origin, kind fsm.Kind, msg proto.Message) (any, error) {
	if err := p.m.capable(kind); err != nil {
		return nil, err
	}
	return p.await(ctx, weight{}, func(dst []byte) ([]byte, error) {
		return fsm.AppendRequest(dst, kind, origin, msg)
	})
}

// doRaw is do for a request of a member that is encoded already.
func (p *proposer) doRaw(ctx context.Context, kind fsm.Kind, body []byte) (any, error) {
	if err := p.m.capable(kind); err != nil {
		return nil, err
	}
	return p.await(ctx, weight{}, func(dst []byte) ([]byte, error) {
		return fsm.AppendRaw(dst, kind, fsm.ByMember, body), nil
	})
}

func (p *proposer) await(ctx context.Context, w weight, encode func([]byte) ([]byte, error)) (any, error) {
	wait := waiterPool.Get().(*waiter)
	if w.keys > heavyKeys {
		if err := p.m.heavy.enter(ctx, p.m, wait); err != nil {
			return nil, err
		}
	}
	if err := p.enqueue(w, encode, wait); err != nil {
		wait.endTurn()
		return nil, err
	}
	p.pending.Add(1)
	defer p.pending.Add(-1)
	select {
	case r := <-wait.result:
		waiterPool.Put(wait)
		if r.Owed != nil {
			r.Err = p.m.pay(ctx, r.Owed)
		}
		if noOutcome(r.Err) {
			p.failed.Add(1)
		}
		return r.Response, r.Err
	case <-ctx.Done():
		wait.leave()
		p.failed.Add(1)
		return nil, contextError(ctx)
	}
}

// noOutcome reports whether an error says that nobody knows what became of a
// request, rather than what did.
func noOutcome(err error) bool {
	return errors.Is(err, ErrTimeout) || errors.Is(err, ErrTimeoutLeaderFail) || errors.Is(err, ErrStopped)
}

// enqueue adds a request to the open batch.
func (p *proposer) enqueue(w weight, encode func([]byte) ([]byte, error), wait *waiter) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
		return ErrStopped
	case p.queued > queueBytes, p.m.behind():
		return ErrTooManyRequests
	}
	if n := len(p.queue); n == 0 || p.queue[n-1].full() {
		p.queue = append(p.queue, p.newBatch())
	}
	b := p.queue[len(p.queue)-1]
	before := b.size()
	payload, err := encode(b.payload)
	if err != nil {
		return err
	}
	b.payload = payload
	if len(b.waiters) == 0 {
		b.begun = time.Now() // and not when one was refused
	}
	b.waiters = append(b.waiters, wait)
	b.weight.add(w)
	p.queued += b.size() - before
	p.unapplied.Add(int64(b.size() - before))
	if len(b.waiters) == 1 {
		signal(p.wake)
	}
	return nil
}

// newBatch makes a batch of the next id; p.mu is held.
func (p *proposer) newBatch() *batch {
	b := newBatch(p.nextID)
	p.nextID++
	if n := len(p.spares); n > 0 {
		b.payload, b.waiters = p.spares[n-1].payload, p.spares[n-1].waiters
		p.spares = p.spares[:n-1]
	}
	return b
}

// recycle keeps the buffers of a batch that was answered, unless one large
// request made them large.
func (p *proposer) recycle(b *batch) {
	spare := b.release()
	if cap(spare.payload) > 2*batchBytes {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spares) < inFlight {
		p.spares = append(p.spares, spare)
	}
}

// sendAll sends batches, one at a time, until the member stops. Requests that come
// before it has been woken share a batch.
func (p *proposer) sendAll() {
	for {
		select {
		case <-p.wake:
		case <-p.m.ctx.Done():
			return
		}
		for {
			b, wait := p.take()
			if b == nil && wait == 0 {
				break
			}
			if b == nil {
				if !p.m.pause(wait) {
					return
				}
				continue
			}
			p.send(b)
			p.recycle(b)
		}
	}
}

// take removes the oldest batch with a request from the queue, or says for how long
// it is to stay there.
func (p *proposer) take() (b *batch, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 || len(p.queue[0].waiters) == 0 {
		return nil, 0
	}
	now := time.Now()
	if len(p.flying) >= fewInFlight && !p.ended {
		if wait = p.left.Add(batchPause).Sub(now); wait > 0 {
			return nil, wait
		}
	}
	b = p.queue[0]
	p.queue = p.queue[1:]
	p.queued -= b.size()
	p.flying[b.id] = b
	p.left = now
	return b, 0
}

// run has batches sent until the member stops, and then answers what is queued and
// takes nothing more.
func (p *proposer) run() {
	for range inFlight {
		p.work.Go(p.sendAll)
	}
	<-p.m.ctx.Done()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	for b, _ := p.take(); b != nil; b, _ = p.take() {
		p.land(b)
		b.fail(ErrStopped)
	}
	p.work.Wait()
}

func (p *proposer) land(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.flying, b.id)
	p.unapplied.Add(-int64(b.size()))
}

// send proposes a batch until it was applied here, or the time is up.
func (p *proposer) send(b *batch) {
	defer p.land(b)
	ctx, cancel := p.limit(b)
	defer cancel()
	for {
		lead, changed := p.m.node.Leadership()
		if lead.Leader != 0 {
			switch err := p.attempt(ctx, b, lead); {
			case err == nil:
				return
			case ctx.Err() != nil:
				b.fail(p.m.timeoutError())
				return
			case errors.Is(err, errAgain):
				continue
			}
		}
		pause := time.NewTimer(retryPropose)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
		if ctx.Err() != nil {
			b.fail(p.m.timeoutError())
			return
		}
	}
}

// limit bounds how long a batch may wait for its outcome, its time in the queue
// included.
func (p *proposer) limit(b *batch) (context.Context, context.CancelFunc) {
	return context.WithDeadline(p.m.ctx, b.begun.Add(p.m.cfg.RequestTimeout))
}

// errAgain: the attempt is definitely lost and the next may start at once.
var errAgain = errors.New("member: attempt is lost")

// attempt proposes b in one term and waits until it was applied here. It
// returns nil when b was answered, errAgain when a later term opened without
// it, raftstore.ErrNotLeader when it was definitely not proposed.
func (p *proposer) attempt(ctx context.Context, b *batch, lead raftstore.Leadership) error {
	lost := p.begin(b, lead.Term)
	if lost == nil {
		return raftstore.ErrNotLeader
	}
	msg := p.m.message(lead, b) // before b's buffer may be used again
	answered := make(chan error, 1)
	if lead.Leader == p.m.cfg.ID {
		answered <- p.m.propose(ctx, lead, msg) // answered once it is applied here
	} else { // which may apply it before it has the answer
		p.work.Go(func() { answered <- p.m.propose(ctx, lead, msg) })
	}
	select {
	case <-b.done:
		return nil
	case <-lost:
		return errAgain
	case err := <-answered:
		if errors.Is(err, raftstore.ErrNotLeader) {
			b.refused()
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	// Agreed but not applied here yet, or unknown: only the log can tell.
	select {
	case <-b.done:
		return nil
	case <-lost:
		return errAgain
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin starts an attempt, unless a later term has begun already.
func (p *proposer) begin(b *batch, term uint64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opened > term {
		return nil
	}
	return b.attempt(term)
}

// flyingBatch returns a batch this member waits for.
func (p *proposer) flyingBatch(id uint64) *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flying[id]
}

// termOpened ends the attempts of earlier terms.
func (p *proposer) termOpened(term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened = max(p.opened, term)
	for _, b := range p.flying {
		b.lose(term - 1)
	}
}

// installed ends all batches that were proposed and not seen since: the state
// that came in, of a term, may contain them, and nobody will tell. Proposing
// one again could apply it twice.
func (p *proposer) installed(term uint64) {
	p.mu.Lock()
	p.opened = max(p.opened, term)
	var unknown []*batch
	for _, b := range p.flying {
		if b.underWay() {
			unknown = append(unknown, b)
		}
	}
	p.mu.Unlock()
	for _, b := range unknown {
		b.fail(ErrTimeout)
	}
}
