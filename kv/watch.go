package kv

// Watch says what a watch is to see.
type Watch struct {
	// Key and End are the range, as in requests: no End for one key, a zero byte
	// for no end.
	Key, End []byte
	// Start is the first revision to be seen, 0 for the next one.
	Start int64
	// NoPut and NoDelete leave out such events.
	NoPut, NoDelete bool
	// PrevKV has events tell what was there before.
	PrevKV bool
	// Notify has Stream.Notify tell how far the watch is.
	Notify bool
	// Fragment says that the consumer may part updates.
	Fragment bool
}

// A watch is a Watch on a stream. It is live, which means that the hub hands it
// the events from next on, or behind: its stream's consumer reads from history
// what it is owed from next on.
type watch struct {
	s        *Stream
	id       int64
	key, end string // end "" is none
	// The other watches of the same range; guarded by the hub's mu.
	after, ahead *watch

	next int64 // guarded by the hub's mu if live, else of the consumer
	// Guarded by the stream's mu; written with the hub's mu held.
	gone, live bool
	// Guarded by the stream's mu.
	queued  bool // in the stream's ready list
	spoke   bool // an update came since the last Notify
	pending []*Event

	touched                 bool // of Route
	single                  bool
	noPut, noDelete, prevKV bool
	notify, fragment        bool
}

func newWatch(s *Stream, id int64, w Watch) *watch {
	sp := spanOf(w.Key, w.End)
	return &watch{
		s: s, id: id, key: string(sp.lo), end: string(sp.hi), single: sp.single,
		noPut: w.NoPut, noDelete: w.NoDelete, prevKV: w.PrevKV, notify: w.Notify, fragment: w.Fragment,
	}
}

// holds reports whether key is in the range.
func (w *watch) holds(key []byte) bool {
	if w.single {
		return string(key) == w.key
	}
	return string(key) >= w.key && (w.end == "" || string(key) < w.end)
}

// ignores reports whether the filters leave an event out.
func (w *watch) ignores(deletion bool) bool {
	return deletion && w.noDelete || !deletion && w.noPut
}

// enter makes w the first watch of a list.
func (w *watch) enter(first *watch) {
	if w.after = first; first != nil {
		first.ahead = w
	}
}

// leave takes w out of its list, whose first watch it returns.
func (w *watch) leave(first *watch) *watch {
	if w.after != nil {
		w.after.ahead = w.ahead
	}
	if w.ahead != nil {
		w.ahead.after = w.after
	} else {
		first = w.after
	}
	w.after, w.ahead = nil, nil
	return first
}
