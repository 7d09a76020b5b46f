package kv

import (
	"errors"
	"slices"
	"sort"
)

// Next returns the next update, if there is one. The one before is then done
// with. Errors, which end the stream: ErrClosed, ErrCorrupt, those of reading
// the state file.
func (s *Stream) Next() (u Update, ok bool, err error) {
	s.mu.Lock()
	s.release()
	s.mu.Unlock()
	for {
		s.mu.Lock()
		switch {
		case s.closed:
			s.mu.Unlock()
			return u, false, ErrClosed
		case len(s.answers) > 0:
			u = s.answers[0]
			// Mostly there is one at a time, whose place the next one takes.
			if s.answers = slices.Delete(s.answers, 0, 1); len(s.answers) == 0 && cap(s.answers) > keptAnswers {
				s.answers = nil
			}
			s.mu.Unlock()
			signal(s.room)
			return u, true, nil
		}
		asked := s.asked > 0 || len(s.notes) > 0
		s.mu.Unlock()
		if asked {
			if u, ok = s.progress(); ok {
				return u, true, nil
			}
		}
		u, ok, err = s.step()
		if ok || err != nil {
			return u, ok, err
		}
		if s.idle() {
			if asked { // which a watch may have held up that found nothing in history
				u, ok = s.progress()
			}
			return u, ok, nil
		}
	}
}

func (s *Stream) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && len(s.answers) == 0 && len(s.ready) == 0 && len(s.behind) == 0
}

// step takes what is ready for one watch, or reads for one that is behind, in
// turns. It does nothing where there is an answer again, which is told before any
// event of the watch that it is about.
func (s *Stream) step() (u Update, ok bool, err error) {
	s.mu.Lock()
	if len(s.answers) > 0 {
		s.mu.Unlock()
		return u, false, nil
	}
	if len(s.behind) > 0 && (s.turn || len(s.ready) == 0) {
		w := s.behind[0]
		if s.behind = s.behind[1:]; len(s.behind) == 0 {
			s.behind = nil
		}
		s.turn = false
		gone := w.gone
		s.mu.Unlock()
		if gone {
			return u, false, nil
		}
		return s.catchUp(w)
	}
	s.turn = true
	if len(s.ready) == 0 {
		s.mu.Unlock()
		return u, false, nil
	}
	w := s.ready[0]
	if s.ready = s.ready[1:]; len(s.ready) == 0 {
		s.ready = nil
	}
	events := s.take(w)
	s.mu.Unlock()
	if len(events) == 0 {
		return u, false, nil
	}
	u, err = s.update(w, events)
	return u, err == nil, err
}

// take returns what is pending for a watch of the revisions that were routed
// completely, while progress is asked for only what has to come before it. Called
// with mu held.
func (s *Stream) take(w *watch) []*Event {
	w.queued = false
	routed := s.h.routed.Load()
	last := routed
	if s.asked > 0 {
		last = min(last, s.goal())
	}
	n := sort.Search(len(w.pending), func(i int) bool { return w.pending[i].rev.main > last })
	events := w.pending[:n:n]
	if w.pending = w.pending[n:]; len(w.pending) == 0 {
		w.pending = nil
	}
	if n > 0 {
		w.spoke = true
		s.hold(events)
		s.told = max(s.told, events[n-1].rev.main)
	}
	if len(w.pending) > 0 && w.pending[0].rev.main <= routed {
		w.queued = true
		s.ready = append(s.ready, w)
	}
	return events
}

// update makes the update of events, and looks up what was before them.
func (s *Stream) update(w *watch, events []*Event) (Update, error) {
	if w.prevKV {
		own := false // events are shared with other watches
		for i, e := range events {
			var known *Event
			if err := s.read(func(v *View) (err error) {
				known, err = e.withPrev(v)
				return err
			}); err != nil {
				return Update{}, err
			}
			if known == e {
				continue
			}
			if !own {
				events, own = slices.Clone(events), true
			}
			events[i] = known
		}
	}
	return Update{
		Kind: Events, ID: w.id, Rev: s.h.newest.Load().rev, Events: events,
		PrevKV: w.prevKV, Fragment: w.fragment, of: w,
	}, nil
}

// read has fn read the newest view, and again where an install has closed the
// file of that view meanwhile.
func (s *Stream) read(fn func(*View) error) error {
	for {
		v := s.h.newest.Load()
		err := fn(v)
		if !errors.Is(err, ErrClosed) || s.h.newest.Load() == v {
			return err
		}
	}
}

// catchUp reads for a watch that is behind, and has it join the live ones when
// it is level.
func (s *Stream) catchUp(w *watch) (u Update, ok bool, err error) {
	events, end, compacted, err := s.history(w)
	if err != nil && !errors.Is(err, ErrCompacted) {
		return u, false, err
	}
	s.h.mu.Lock()
	s.mu.Lock()
	gone := w.gone
	switch {
	case gone:
	case err != nil:
		s.drop(w)
	default:
		w.next = end + 1
		if w.live = w.next > s.h.routed.Load(); !w.live {
			s.behind = append(s.behind, w)
		}
		if len(events) > 0 {
			w.spoke = true
			s.told = max(s.told, events[len(events)-1].rev.main)
		}
		s.hand = sizeOf(events) // Next has released what it was
		s.sent += int64(len(events))
		s.h.bytes.Add(int64(s.hand))
	}
	s.mu.Unlock()
	s.h.mu.Unlock()
	switch {
	case gone:
		return u, false, nil
	case err != nil:
		return Update{Kind: Canceled, ID: w.id, Compacted: compacted}, true, nil
	case len(events) == 0:
		return u, false, nil
	}
	u, err = s.update(w, events)
	return u, err == nil, err
}

// history reads a piece of what a watch is owed; with ErrCompacted it says what
// was.
func (s *Stream) history(w *watch) (events []*Event, end, compacted int64, err error) {
	limits := s.h.limits.replay
	reserved := int64(limits.bytes)
	if s.h.bytes.Add(reserved) > s.h.limits.hub {
		limits.bytes = s.rest(limits.bytes)
	}
	defer s.h.bytes.Add(-reserved)
	err = s.read(func(v *View) (err error) {
		// What is not long ago others want too, whatever key they watch; what is
		// longer ago of one key the index finds faster.
		switch recent := v.rev-w.next < int64(limits.revisions); {
		case !w.single || recent:
			events, end, err = s.h.archive.replay(v, w, story{}, w.next, limits.bytes)
		case !w.noPut && !w.noDelete && s.h.shared(w):
			events, end, err = s.h.keys.replay(v, w, story{w.key, true}, w.next, limits.bytes)
		default:
			events, end, err = v.replayKey(w, w.next, limits)
		}
		if errors.Is(err, ErrCompacted) {
			compacted = v.st.View().compactRev
		}
		return err
	})
	return events, end, compacted, err
}

// rest is what the stream may have of n bytes when all have too much.
func (s *Stream) rest(n int) int {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(n, max(int(s.h.share())-s.bytes, 1))
}

// progress answers one of Notify's or AskProgress's questions, if it can be
// answered now.
func (s *Stream) progress() (u Update, ok bool) {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) > 0 { // which come first: a watch that has ended may be owed something
		return u, false
	}
	for len(s.notes) > 0 {
		w := s.notes[0]
		s.notes = s.notes[1:]
		if w.live && len(w.pending) == 0 && !s.early(w) {
			// Routing may be behind what the watch has read, or begins with.
			rev := max(h.routed.Load(), w.next-1)
			s.told = max(s.told, rev)
			return Update{Kind: Progress, ID: w.id, Rev: rev}, true
		}
	}
	s.notes = nil
	if s.asked == 0 {
		return u, false
	}
	if len(s.watches) == 0 || s.anyEarly() {
		s.asked = 0
		signal(s.room)
		return u, false
	}
	rev, goal := s.handedOver(), s.goal()
	if rev < goal {
		if h.routed.Load() < goal && !s.waits {
			s.waits = true
			h.waiting = append(h.waiting, s)
		}
		return u, false
	}
	s.asked--
	s.told = rev
	signal(s.room)
	return Update{Kind: Progress, ID: AllWatches, Rev: rev}, true
}

// goal is the revision up to which the consumer gets everything before progress is
// told: that must not be behind an event of another watch. Called with mu held.
func (s *Stream) goal() int64 { return max(s.askedAt, s.told) }

// early reports whether a watch starts in the future. Called with mu held.
func (s *Stream) early(w *watch) bool { return w.next > s.h.newest.Load().rev+1 }

func (s *Stream) anyEarly() bool {
	if s.latest <= s.h.newest.Load().rev {
		return false
	}
	for _, w := range s.watches {
		if s.early(w) {
			return true
		}
	}
	return false
}

// handedOver is the revision up to which the consumer has everything. Called
// with both mu held.
func (s *Stream) handedOver() int64 {
	rev := s.h.routed.Load()
	for _, w := range s.ready {
		if len(w.pending) > 0 {
			rev = min(rev, w.pending[0].rev.main-1)
		}
	}
	for _, w := range s.behind {
		if !w.gone {
			rev = min(rev, w.next-1)
		}
	}
	return rev
}
