package raftstore

import (
	"fmt"
)

// DeleteRange removes entries from either end of the log, durably. Removing the
// tail takes back what is queued there, and waits for a group that is being
// written; removing the head waits until what it removes was written, and one
// entry more: a log on disk is never empty without a mark that says where it
// continues. One that is removed whole continues where it began, as after a
// conflict.
func (s *logStore) DeleteRange(lo, hi uint64) error {
	s.changes.Lock()
	defer s.changes.Unlock()
	s.mu.Lock()
	first, last, err := s.first, s.last.Load(), s.usable()
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case first == 0 || lo > hi || hi < first || lo > last:
		return nil
	case lo <= first && hi >= last:
		return s.empty(first - 1)
	case lo <= first:
		return s.deleteHead(hi)
	case hi >= last:
		return s.deleteTail(lo)
	default:
		return fmt.Errorf("%w: entries %d to %d of %d to %d", errLogMiddle, lo, hi, first, last)
	}
}

// deleteHead removes everything up to hi. The writer goes on meanwhile.
func (s *logStore) deleteHead(hi uint64) error {
	if err := s.AwaitDurable(hi+1, nil); err != nil {
		return err
	}
	s.mu.Lock()
	first := s.first
	s.first = hi + 1
	s.cache.dropHead(hi + 1)
	s.spans.dropHead(hi + 1)
	s.mu.Unlock()
	return s.change(func() error { return s.backend.DeleteRange(first, hi) })
}

// deleteTail removes everything from lo on.
func (s *logStore) deleteTail(lo uint64) error {
	s.mu.Lock()
	s.hold()
	if err := s.usable(); err != nil {
		s.release()
		s.mu.Unlock()
		return err
	}
	written := s.durable.Load()
	s.cut(lo)
	s.mu.Unlock()
	var err error
	if lo <= written {
		err = s.change(func() error { return s.backend.DeleteRange(lo, written) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	return err
}

// cut forgets the entries from lo on; s.mu is held.
func (s *logStore) cut(lo uint64) {
	s.cuts++
	for index := max(lo, s.durable.Load()+1); index <= s.last.Load(); index++ {
		s.queued -= loggedSize(s.cache.get(index))
	}
	s.cache.dropTail(lo)
	s.spans.dropTail(lo)
	s.durable.Store(min(s.durable.Load(), lo-1))
	s.last.Store(lo - 1)
	s.settle()
}

// Reset empties the log, durably: it continues after index. The mark is written
// first, so that newLogStore ends what a crash interrupts; a state that holds
// index is in its place by then. The log must not begin behind index, as none
// does that is kept up to what the state holds. It may be called again.
func (s *logStore) Reset(after uint64) error {
	s.changes.Lock()
	defer s.changes.Unlock()
	s.mu.RLock()
	first := s.first
	s.mu.RUnlock()
	if first > after {
		return fmt.Errorf("%w: reset after %d, the log begins at %d", errLogMiddle, after, first)
	}
	return s.empty(after)
}

// empty removes everything; the log continues after index. s.changes is held.
func (s *logStore) empty(after uint64) error {
	s.mu.Lock()
	s.hold()
	first, written, err := s.first, s.durable.Load(), s.usable()
	if err == nil && first > 0 {
		s.cut(first)
	}
	s.mu.Unlock()
	if err == nil {
		err = s.SetUint64(keyLogStart, after)
	}
	if err == nil && first > 0 && first <= written {
		err = s.change(func() error { return s.backend.DeleteRange(first, written) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.first, s.start, s.spans = 0, after, logSpans{}
		s.last.Store(after)
		s.advance(after)
	}
	s.release()
	return err
}

// hold waits for the group that is being written and has none begun; s.mu is
// held.
func (s *logStore) hold() {
	s.held = true
	for s.writing {
		s.idle.Wait()
	}
}

// release lets the writer go on; s.mu is held.
func (s *logStore) release() {
	s.held = false
	s.work.Signal()
	s.idle.Broadcast()
}

// change removes entries from the backend.
func (s *logStore) change(remove func() error) error {
	s.watch.begin(watchChange)
	err := remove()
	s.watch.end(watchChange)
	if err != nil {
		return s.fail(fmt.Errorf("remove entries from the log: %w", err))
	}
	return nil
}

// Set stores a setting, durably. Raft's votes and terms do not depend on the
// entries that are queued: see logStore. Nor do they fail with the log, because
// raft answers that by a panic.
func (s *logStore) Set(key, value []byte) error {
	return s.set(func() error { return s.backend.Set(key, value) })
}

// SetUint64 is Set for a number.
func (s *logStore) SetUint64(key []byte, value uint64) error {
	return s.set(func() error { return s.backend.SetUint64(key, value) })
}

func (s *logStore) set(store func() error) error {
	s.stables.Lock()
	defer s.stables.Unlock()
	s.mu.RLock()
	closed := s.closed
	s.mu.RUnlock()
	if closed {
		return errLogClosed
	}
	s.watch.begin(watchStable)
	err := store()
	s.watch.end(watchStable)
	if err != nil {
		return s.fail(fmt.Errorf("write raft's settings: %w", err))
	}
	return nil
}
