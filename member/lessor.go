package member

import (
	"container/heap"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-kv/conclave/kv"
)

const (
	// leaseSlack is how much longer than agreed a new leader keeps leases, in
	// milliseconds. A renewal that gives no more than that is answered without
	// the log: whoever leads next keeps the lease that long anyway.
	leaseSlack = 2000
	// leaseTick is how often a leader looks for leases that ended.
	leaseTick = 250 * time.Millisecond
	// leaseMaxStep bounds how far the clock goes without a tick. A process that
	// stood still did not watch over its leases, and nobody could renew them.
	leaseMaxStep = 2 * leaseTick
)

// errNotLessor: this member does not lead, or does not know it for certain yet.
var errNotLessor = errors.New("member: leases are looked after by another member")

// lessor is what a leader knows of time: its clock, and until when each lease
// is promised. The clock is the agreed lease clock from when its term began, and
// goes on from there with the process's own monotonic time.
//
// Why an acknowledged renewal is never forgotten: the clock of a later leader
// begins at an agreed time, which is at most what this one's clock showed when
// that leader took over, and that was after this member was last known to lead.
// Since then both went on equally fast. So a lease with the agreed deadline D
// ends there no earlier than this clock shows D + leaseSlack, and no promise
// beyond that is made. Only a gap in this member's own time would break that;
// after one, nothing is promised until leadership was confirmed again.
type lessor struct {
	since func() time.Duration // monotonic time; a test's own in tests
	wake  chan struct{}        // something else to do than waiting
	renew chan struct{}        // renewals wait for an entry
	over  chan struct{}        // leases ended

	opened  atomic.Uint64 // newest term that is known to have begun
	expired atomic.Uint64 // leases that ended
	renewed atomic.Uint64 // renewals granted
	gaps    atomic.Uint64 // that were noticed; written with mu held

	mu        sync.Mutex
	term      uint64 // term that this member leads; 0: none
	confirmed bool   // leadership was confirmed since the last gap
	clock     int64  // at the last tick, in milliseconds
	ticked    time.Duration
	leases    map[int64]*tenancy
	queue     tenancies
	due       []int64                 // renewals that wait for an entry
	waiting   map[int64]chan struct{} // closed when there is news of a lease
	news      chan struct{}           // closed when there is news of all of them
}

// A tenancy is one lease as the leader sees it; times are on the lease clock.
type tenancy struct {
	id       int64
	ttl      int64 // granted, in seconds
	agreed   int64 // deadline that every member knows
	deadline int64 // deadline promised
	listed   int64 // when the queue has it looked at: not after the real deadline, but while due
	due      bool  // in lessor.due
	ending   bool  // its end is being agreed; nothing renews it
	left     bool  // gone, and perhaps still in the queue
}

func newLessor() *lessor {
	start := time.Now()
	return &lessor{
		since: func() time.Duration { return time.Since(start) },
		wake:  make(chan struct{}, 1), renew: make(chan struct{}, 1), over: make(chan struct{}, 1),
		news: make(chan struct{}),
	}
}

// now returns the clock. Held: mu.
func (l *lessor) now() int64 {
	return l.clock + int64(min(l.since()-l.ticked, leaseMaxStep)/time.Millisecond)
}

// steady reports whether promises can be made. Held: mu.
func (l *lessor) steady() bool { return l.confirmed && l.since()-l.ticked < leaseMaxStep }

// takeOver begins a term of this member, with the state that holds all of the
// terms before.
func (l *lessor) takeOver(term uint64, view func() *kv.View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := view()
	l.term, l.confirmed = term, false
	l.clock, l.ticked = v.LeaseClock(), l.since()
	l.leases, l.queue, l.due = make(map[int64]*tenancy, v.LeaseCount()), nil, nil
	l.waiting = map[int64]chan struct{}{}
	v.Leases(func(e kv.Lease) bool {
		deadline := e.Deadline + leaseSlack
		t := &tenancy{id: e.ID, ttl: e.TTL, agreed: e.Deadline, deadline: deadline, listed: deadline}
		l.leases[e.ID] = t
		l.queue = append(l.queue, t)
		return true
	})
	heap.Init(&l.queue)
}

// drop ends this member's term, if it has one; who waits asks elsewhere.
func (l *lessor) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == 0 {
		return
	}
	l.term, l.confirmed = 0, false
	l.leases, l.queue, l.due, l.waiting = nil, nil, nil, nil
	l.tell()
}

// tell wakes everybody who waits. Held: mu.
func (l *lessor) tell() {
	close(l.news)
	l.news = make(chan struct{})
}

// changed takes in what was agreed about leases.
func (l *lessor) changed(changes []kv.LeaseChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == 0 {
		return
	}
	if len(l.leases) == 0 {
		// The clock stood still. That is a gap like others.
		l.clock, l.ticked, l.confirmed = l.now(), l.since(), false
		l.gaps.Add(1)
		signal(l.wake)
	}
	now := l.now()
	for _, c := range changes {
		t := l.leases[c.ID]
		switch {
		case c.Gone && t != nil:
			if t.ending {
				l.expired.Add(1)
			}
			t.left = true
			delete(l.leases, c.ID)
		case c.Gone:
		case t == nil:
			t = &tenancy{id: c.ID, ttl: c.TTL, agreed: c.Deadline, deadline: now + c.TTL*1000}
			l.leases[c.ID] = t
			l.list(t)
			l.cover(t)
		default:
			t.agreed, t.due = c.Deadline, false
			t.deadline = max(t.deadline, c.Deadline)
		}
		if ch := l.waiting[c.ID]; ch != nil {
			close(ch)
			delete(l.waiting, c.ID)
		}
	}
	if len(l.queue) > 64 && len(l.queue) > 2*len(l.leases) {
		l.sweep()
	}
}

// cover has an entry agree on a deadline that a later leader would not keep to.
// Held: mu.
func (l *lessor) cover(t *tenancy) {
	if t.deadline-t.agreed > leaseSlack {
		l.agree(t)
	}
}

// agree has the next entry renew a lease. Held: mu.
func (l *lessor) agree(t *tenancy) {
	if !t.due {
		t.due = true
		l.due = append(l.due, t.id)
		signal(l.renew)
	}
}

// list puts a lease into the queue. Held: mu.
func (l *lessor) list(t *tenancy) {
	t.listed = t.deadline
	heap.Push(&l.queue, t)
}

// sweep takes out of the queue what has gone. Held: mu.
func (l *lessor) sweep() {
	kept := l.queue[:0]
	for _, t := range l.queue {
		if !t.left {
			kept = append(kept, t)
		}
	}
	clear(l.queue[len(kept):])
	l.queue = kept
	heap.Init(&l.queue)
}

// tick brings the clock up to date. Leases wait for leadership to be confirmed
// after a gap.
func (l *lessor) tick() (busy, confirmed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since()-l.ticked >= leaseMaxStep {
		l.confirmed = false
		l.gaps.Add(1)
	}
	l.clock, l.ticked = l.now(), l.since()
	return l.term != 0 && len(l.leases) > 0, l.confirmed
}

// confirm notes that this member was found to lead in term, as an answer to what
// was asked when so many gaps had been noticed.
func (l *lessor) confirm(term, gaps uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == term && l.gaps.Load() == gaps && l.since()-l.ticked < leaseMaxStep && !l.confirmed {
		l.confirmed = true
		l.tell()
	}
}

// ended picks at most n leases that are over, whose end is to be agreed, and
// lets nobody renew them any more.
func (l *lessor) ended(n int) (term uint64, ids []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.steady() {
		return 0, nil
	}
	now := l.now()
	for len(l.queue) > 0 && len(ids) < n && l.queue[0].listed <= now {
		t := l.queue[0]
		switch {
		case t.left:
			heap.Pop(&l.queue)
		case t.deadline > now: // renewed since
			t.listed = t.deadline
			heap.Fix(&l.queue, 0)
		case t.due: // somebody renewed it in time, and has it once that is agreed
			t.listed = now + leaseTick.Milliseconds()
			heap.Fix(&l.queue, 0)
		default:
			heap.Pop(&l.queue)
			t.ending = true
			ids = append(ids, t.id)
		}
	}
	return l.term, ids
}

// stillEnding is what is left of leases whose end is to be agreed: one that was
// revoked meanwhile, and perhaps granted anew, is none of them.
func (l *lessor) stillEnding(ids []int64) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(ids), func(id int64) bool {
		t := l.leases[id]
		return t == nil || !t.ending
	})
}

// spare gives leases back whose end was not proposed.
func (l *lessor) spare(term uint64, ids []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term {
		return
	}
	for _, id := range ids {
		if t := l.leases[id]; t != nil && t.ending {
			t.ending = false
			l.list(t)
		}
	}
	l.tell()
}

// takeDue takes at most n renewals for an entry, and says what clock it has.
func (l *lessor) takeDue(n int) (term uint64, clock int64, ids []int64, busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.due))
	ids = append([]int64(nil), l.due[:n]...)
	if l.due = l.due[n:]; len(l.due) == 0 {
		l.due = nil
	} else {
		signal(l.renew)
	}
	return l.term, l.now(), ids, l.term != 0 && len(l.leases) > 0
}

// putBack lists renewals again whose entry came to nothing.
func (l *lessor) putBack(term uint64, ids []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term {
		return
	}
	for _, id := range ids {
		if t := l.leases[id]; t != nil && t.due {
			l.due = append(l.due, id)
		}
	}
	signal(l.renew)
}

// tenancies is a heap, the first to end on top.
type tenancies []*tenancy

func (q tenancies) Len() int           { return len(q) }
func (q tenancies) Less(i, j int) bool { return q[i].listed < q[j].listed }
func (q tenancies) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *tenancies) Push(x any)        { *q = append(*q, x.(*tenancy)) }
func (q *tenancies) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}
