package kv

import (
	"sync"
	"sync/atomic"
)

// Bounds of what waits for consumers or is in their hands, in bytes of records
// and in events. What is shared by many watches is counted for each.
const (
	streamBytes  = 256 << 10
	streamEvents = 1000
	// hubBytes is for all streams together. Beyond it each may still have its
	// share of as much again, so that those who do not read cost others nothing,
	// and one revision, so that it gets on.
	hubBytes = 64 << 20
	// inboxBytes is how much may wait for Route before it is read from history
	// instead.
	inboxBytes = 64 << 20
)

// A Hub brings what batches wrote to the watches, whose streams pull it. It
// starts nothing and waits for nobody: Publish appends to a list, some goroutine
// calls Route after each Wake, and consumers call Next. It outlives the Stores
// that the views come from.
type Hub struct {
	newest   atomic.Pointer[View]
	watching atomic.Int64 // watches that there are
	routed   atomic.Int64 // revision up to which Route handed over; written with mu held
	bytes    atomic.Int64 // pending on all streams, or in the hands of their consumers
	wake     chan struct{}
	limits   hubLimits
	archive  archive // of all keys
	keys     archive // of keys that many watch, which are not to push out what is of all

	inbox struct {
		sync.Mutex
		list  []publication
		bytes int
		lost  int64 // revision up to which publications are not in list; 0: none
	}

	mu      sync.Mutex // before the mu of streams
	singles map[string]*watch
	ranges  intervals
	streams map[*Stream]struct{}
	waiting []*Stream // for routed to grow
	touched []*watch  // by the publication being routed
	closed  bool
	sent    int64 // events taken from streams that are closed
}

type hubLimits struct {
	streamBytes, streamEvents, inbox int
	hub                              int64
	replay                           replayLimits
}

type publication struct {
	rev  int64 // of the store after it
	recs []change
}

// NewHub makes a hub for what happens after a view.
func NewHub(v *View) *Hub {
	h := &Hub{
		wake: make(chan struct{}, 1), singles: make(map[string]*watch), streams: make(map[*Stream]struct{}),
	}
	h.bound(hubLimits{streamBytes, streamEvents, inboxBytes, hubBytes, defaultReplay})
	h.newest.Store(v)
	h.routed.Store(v.rev)
	return h
}

// bound sets the limits. Called before the hub is used.
func (h *Hub) bound(l hubLimits) {
	h.limits, h.archive.limits, h.keys.limits = l, l.replay, l.replay
}

// Publish tells the hub of a batch that was frozen, in the order of the
// batches. It never blocks for long.
func (h *Hub) Publish(v *View, c *Changes) {
	h.newest.Store(v)
	// Who makes the first watch counts it before it looks at newest; so nothing
	// falls between.
	if h.watching.Load() == 0 || len(c.recs) == 0 {
		return
	}
	h.inbox.Lock()
	h.inbox.list = append(h.inbox.list, publication{v.rev, c.recs})
	if h.inbox.bytes += c.Bytes(); h.inbox.bytes > h.limits.inbox {
		h.inbox.list, h.inbox.bytes, h.inbox.lost = nil, 0, v.rev
	}
	h.inbox.Unlock()
	signal(h.wake)
}

// Reset tells the hub that the state was replaced by a newer one: watches read
// from history what they miss.
func (h *Hub) Reset(v *View) {
	h.newest.Store(v)
	h.archive.forget()
	h.keys.forget()
	h.inbox.Lock()
	h.inbox.list, h.inbox.bytes, h.inbox.lost = nil, 0, v.rev
	h.inbox.Unlock()
	signal(h.wake)
}

// Wake returns a channel that is sent to when Route has something to do.
func (h *Hub) Wake() <-chan struct{} { return h.wake }

// signal wakes the receiver of a channel with room for one signal.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Route hands what was published to the streams. It is called by one goroutine
// at a time.
func (h *Hub) Route() {
	h.inbox.Lock()
	list, lost := h.inbox.list, h.inbox.lost
	h.inbox.list, h.inbox.bytes, h.inbox.lost = nil, 0, 0
	h.inbox.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if lost > h.routed.Load() {
		h.allBehind()
		h.routed.Store(lost)
	}
	for _, p := range list {
		if p.rev > h.routed.Load() {
			h.route(p)
		}
	}
	for _, s := range h.waiting {
		s.waits = false
		signal(s.wake)
	}
	clear(h.waiting)
	h.waiting = h.waiting[:0]
}

// allBehind has every live watch read history from what it has on.
func (h *Hub) allBehind() {
	owed := h.routed.Load() + 1
	for s := range h.streams {
		s.mu.Lock()
		for _, w := range s.watches {
			if w.live {
				h.fallBehind(w, max(w.next, owed))
			}
		}
		s.mu.Unlock()
	}
}

func (h *Hub) route(p publication) {
	for i := range p.recs {
		r := &p.recs[i]
		key := encodedKey(r.enc)
		var ev *Event
		offer := func(w *watch) {
			for ; w != nil; w = w.after {
				if !w.live || r.main < w.next || w.ignores(r.tomb) {
					continue
				}
				if ev == nil {
					ev = newEvent(r.revision, r.enc)
				}
				h.offer(w, ev)
			}
		}
		offer(h.singles[string(key)])
		if h.ranges.root != nil {
			h.ranges.root.stab(key, func(n *interval) { offer(n.first) })
		}
	}
	// Consumers take no event beyond routed: so they get whole revisions.
	h.routed.Store(p.rev)
	for _, w := range h.touched {
		w.touched = false
		w.s.mu.Lock()
		if len(w.pending) > 0 && !w.queued {
			w.queued = true
			w.s.ready = append(w.s.ready, w)
		}
		rests := w.s.rests
		w.s.mu.Unlock()
		if !rests {
			signal(w.s.wake)
		}
	}
	clear(h.touched)
	h.touched = h.touched[:0]
}

// offer gives a live watch an event, or has it fall behind.
func (h *Hub) offer(w *watch, ev *Event) {
	s := w.s
	size := len(ev.enc)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &h.limits
	switch {
	case s.events > 0 && (s.events >= l.streamEvents || s.bytes+size > l.streamBytes),
		h.bytes.Load()+int64(size) > l.hub && int64(s.bytes+s.hand+size) > h.share():
		h.fallBehind(w, ev.rev.main)
		return
	}
	w.pending = append(w.pending, ev)
	s.events++
	s.bytes += size
	h.bytes.Add(int64(size))
	if !w.touched {
		w.touched = true
		h.touched = append(h.touched, w)
	}
}

// share is what each stream may have when all together have too much. Called
// with mu held.
func (h *Hub) share() int64 { return h.limits.hub / int64(max(len(h.streams), 1)) }

// fallBehind forgets what waits for a watch, which then reads history from
// there on, or from owed. Called with both mu held.
func (h *Hub) fallBehind(w *watch, owed int64) {
	if len(w.pending) > 0 {
		owed = w.pending[0].rev.main
		w.s.discard(w.pending)
		w.pending = nil
	}
	w.live, w.next = false, owed
	w.s.behind = append(w.s.behind, w)
	signal(w.s.wake)
}

// sharedBy is how many watches of one key share the reading of its history: fewer
// would rather wait for those of other keys than save each other something.
const sharedBy = 8

// shared reports whether so many watches have the range of w.
func (h *Hub) shared(w *watch) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 1
	for other := w.after; other != nil && n < sharedBy; other = other.after {
		n++
	}
	for other := w.ahead; other != nil && n < sharedBy; other = other.ahead {
		n++
	}
	return n >= sharedBy
}

// add registers a watch. Called with mu held.
func (h *Hub) add(w *watch) {
	if h.watching.Add(1) == 1 {
		// What was published while nobody watched is nobody's.
		h.routed.Store(max(h.routed.Load(), h.newest.Load().rev))
	}
	if w.single {
		w.enter(h.singles[w.key])
		h.singles[w.key] = w
		return
	}
	n := h.ranges.add(w.key, w.end)
	w.enter(n.first)
	n.first = w
}

// remove takes a watch out. Called with both mu held.
func (h *Hub) remove(w *watch) {
	h.watching.Add(-1)
	w.s.discard(w.pending)
	w.pending = nil
	w.gone, w.live = true, false
	if w.single {
		if first := w.leave(h.singles[w.key]); first != nil {
			h.singles[w.key] = first
		} else {
			delete(h.singles, w.key)
		}
		return
	}
	n := h.ranges.find(w.key, w.end)
	if n.first = w.leave(n.first); n.first == nil {
		h.ranges.remove(w.key, w.end)
	}
}

// Close ends all streams: Next answers ErrClosed.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.streams {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		signal(s.wake)
	}
}
