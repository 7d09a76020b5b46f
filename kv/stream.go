package kv

import (
	"errors"
	"sync"
)

// ErrDuplicateWatch: a watch id is in use on the stream.
var ErrDuplicateWatch = errors.New("duplicate watch ID provided on the WatchStream")

// ErrEmptyRange: the range of a watch holds no key.
var ErrEmptyRange = errors.New("watcher range is empty")

// A Kind of update.
type Kind uint8

// The kinds of updates.
const (
	Created  Kind = iota // the watch was made
	Canceled             // the watch has ended
	Events               // the watch saw events
	Progress             // everything up to a revision was handed over
)

// AllWatches is the id of an update about all watches of a stream.
const AllWatches = -1

// An Update is what the consumer of a stream gets: of one watch, or of all.
type Update struct {
	Kind Kind
	ID   int64
	// Rev is the store's revision; with Created the one before the first that the
	// watch sees if it has no start, with Progress the one up to which
	// everything was handed over.
	Rev int64
	// Events are in the order of revisions, and whole revisions.
	Events []*Event
	// Compacted is the compaction because of which a watch was canceled, 0 if it
	// was not.
	Compacted int64
	// Err is why a watch was refused, with ID AllWatches, or ended.
	Err error
	// PrevKV and Fragment are those of the watch.
	PrevKV, Fragment bool

	of *watch // whose events they are
}

// A Stream is a set of watches and their one consumer, which calls Next until it
// has nothing more, and then waits for Wake. Create, Cancel and the like may be
// called from another goroutine. What is not taken costs nobody anything: it is
// forgotten, and read from history later.
type Stream struct {
	h    *Hub
	wake chan struct{}
	room chan struct{} // answers were taken

	mu            sync.Mutex
	closed        bool
	watches       map[int64]*watch
	nextID        int64
	latest        int64 // latest start of a watch
	answers       []Update
	ready, behind []*watch
	notes         []*watch // that Notify asked for
	events, bytes int      // pending
	sent          int64    // events that were taken
	hand          int      // bytes of the update that Next returned last
	turn          bool     // of those behind
	rests         bool     // the consumer is not woken for events
	asked         int      // progress requests
	askedAt       int64    // newest revision at the last of them
	told          int64    // newest revision that an event, a creation or progress told of
	waits         bool     // is in the hub's waiting list; guarded by its mu
}

// maxAnswers is how many answers may wait before Crowded; for keptAnswers there is
// room also while none waits.
const (
	maxAnswers  = 64
	keptAnswers = 4
)

// NewStream makes a stream, which must be closed.
func (h *Hub) NewStream() *Stream {
	s := &Stream{h: h, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), watches: make(map[int64]*watch)}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.closed = h.closed
	h.streams[s] = struct{}{}
	return s
}

// Close ends the stream and its watches.
func (s *Stream) Close() {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for id, w := range s.watches {
		s.h.remove(w)
		delete(s.watches, id)
	}
	if _, open := s.h.streams[s]; open {
		s.h.sent += s.sent
		delete(s.h.streams, s)
	}
	s.release()
	s.ready, s.behind, s.notes, s.answers = nil, nil, nil, nil
}

// Wake returns a channel that is sent to when Next has something.
func (s *Stream) Wake() <-chan struct{} { return s.wake }

// Room returns a channel that is sent to when answers were taken.
func (s *Stream) Room() <-chan struct{} { return s.room }

// Crowded reports whether so many answers wait to be taken that nothing more
// should be asked for.
func (s *Stream) Crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.answers) >= maxAnswers || s.asked >= maxAnswers
}

// Ready is how many watches have events that Next would give one after the other,
// 0 while it has something else to give.
func (s *Stream) Ready() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.answers) > 0 || s.asked > 0 || len(s.notes) > 0 || len(s.behind) > 0 {
		return 0
	}
	return len(s.ready)
}

// Rest has events of live watches not wake the consumer, which will take them by
// itself, until it is called again with false.
func (s *Stream) Rest(rest bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rests = rest
}

// Create makes a watch with an id that no other one of the stream has; 0 has one
// chosen. Next tells that before any event: as Created, or with Err, which is
// also returned: ErrDuplicateWatch, ErrEmptyRange, ErrCompacted for a negative
// start.
func (s *Stream) Create(id int64, spec Watch) (int64, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	sp := spanOf(spec.Key, spec.End)
	var err error
	switch {
	case sp.hi != nil && string(sp.hi) <= string(sp.lo):
		err = ErrEmptyRange
	case spec.Start < 0:
		err = ErrCompacted
	case id != 0 && s.watches[id] != nil:
		err = ErrDuplicateWatch
	}
	if err != nil {
		s.refuse(err)
		return 0, err
	}
	if id == 0 {
		for s.watches[s.nextID] != nil {
			s.nextID++
		}
		id = s.nextID
		s.nextID++
	}
	w := newWatch(s, id, spec)
	s.watches[id] = w
	s.h.add(w)
	rev := s.h.newest.Load().rev
	s.answer(Update{Kind: Created, ID: id, Rev: rev})
	w.next = spec.Start
	if w.next == 0 {
		w.next = rev + 1
	}
	s.latest = max(s.latest, spec.Start)
	s.told = max(s.told, rev)
	if w.live = w.next > rev; !w.live {
		s.behind = append(s.behind, w)
	}
	return id, nil
}

// Refuse answers a creation that the consumer's side has refused.
func (s *Stream) Refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse(err)
}

func (s *Stream) refuse(err error) {
	s.answer(Update{Kind: Created, ID: AllWatches, Rev: s.h.newest.Load().rev, Err: err})
}

func (s *Stream) answer(u Update) {
	s.answers = append(s.answers, u)
	signal(s.wake)
}

// Cancel ends a watch; Next tells that. An unknown id does nothing.
func (s *Stream) Cancel(id int64) { s.End(id, nil) }

// End is Cancel for a reason, which Next tells. What waits for the watch is
// forgotten.
func (s *Stream) End(id int64, why error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.watches[id]; w != nil {
		s.drop(w)
		s.answer(Update{Kind: Canceled, ID: id, Rev: s.h.newest.Load().rev, Err: why})
	}
}

// IDs returns the ids of all watches.
func (s *Stream) IDs() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]int64, 0, len(s.watches))
	for id := range s.watches {
		ids = append(ids, id)
	}
	return ids
}

// Has reports whether there is a watch.
func (s *Stream) Has(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watches[id] != nil
}

// Lost reports whether an update with events is of a watch that has ended since,
// though another one may have its id.
func (s *Stream) Lost(u Update) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return u.Kind == Events && s.watches[u.ID] != u.of
}

// Range returns what a watch was made with as Key and End, if there is one.
func (s *Stream) Range(id int64) (key, end []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watches[id]
	if w == nil {
		return nil, nil, false
	}
	switch key = []byte(w.key); {
	case w.single:
	case w.end == "":
		end = []byte{0}
	default:
		end = []byte(w.end)
	}
	return key, end, true
}

func (s *Stream) drop(w *watch) {
	delete(s.watches, w.id)
	s.h.remove(w)
}

// AskProgress has Next tell once up to which revision everything was handed
// over, when that is at least the newest one of now. It never does if there is
// no watch, or one that starts in the future.
func (s *Stream) AskProgress() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.askedAt = s.h.newest.Load().rev
	signal(s.wake)
}

// Notify has Next tell how far each watch with Notify is that has got nothing
// since the last call.
func (s *Stream) Notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = s.notes[:0]
	for _, w := range s.watches {
		if w.notify && !w.spoke {
			s.notes = append(s.notes, w)
		}
		w.spoke = false
	}
	signal(s.wake)
}

// sizeOf is what events count in the accounts of streams and hub, in bytes.
func sizeOf(events []*Event) (size int) {
	for _, e := range events {
		size += len(e.enc)
	}
	return size
}

// discard takes pending events out of the accounts. Called with mu held.
func (s *Stream) discard(events []*Event) {
	size := sizeOf(events)
	s.events -= len(events)
	s.bytes -= size
	s.h.bytes.Add(-int64(size))
}

// hold moves pending events into the consumer's hand. Called with mu held.
func (s *Stream) hold(events []*Event) {
	size := sizeOf(events)
	s.events -= len(events)
	s.bytes -= size
	s.hand += size
	s.sent += int64(len(events))
}

// release takes what the consumer had in hand out of the accounts. Called with
// mu held.
func (s *Stream) release() {
	s.h.bytes.Add(-int64(s.hand))
	s.hand = 0
}
