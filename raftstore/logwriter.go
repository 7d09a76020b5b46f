package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// queueBytes bounds the entries that wait to be written: beyond it StoreLogs
	// waits. One call may pass it by what it brings itself.
	queueBytes = 64 << 20
	// groupBytes bounds one group, unless a single entry is larger: the encoded
	// group is in memory twice, and waiters hear of a long queue in steps.
	groupBytes = 8 << 20
	// spareWaits is how many waits are kept for use again.
	spareWaits = 16
)

// StoreLog stores one entry; see StoreLogs.
func (s *logStore) StoreLog(log *raft.Log) error {
	return s.StoreLogs([]*raft.Log{log})
}

// StoreLogs takes entries, which follow the last one and are never changed
// again. It returns when they are on stable storage; with async, when they are
// queued, unless one of them is a configuration. It waits while the queue is
// full. After an error nobody knows what is on disk, and a later sync that
// succeeds says nothing about it: every further call fails, and the process must
// end.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	wait, err := s.enqueue(logs)
	if err != nil || !wait {
		return err
	}
	return s.AwaitDurable(logs[len(logs)-1].Index, nil)
}

// enqueue hands entries to the writer, and tells whether they are to be waited
// for.
func (s *logStore) enqueue(logs []*raft.Log) (wait bool, err error) {
	size := 0
	wait = !s.async
	for _, l := range logs {
		size += loggedSize(l)
		wait = wait || l.Type == raft.LogConfiguration
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.queued > 0 && s.queued+size > queueBytes && s.usable() == nil {
		s.idle.Wait()
	}
	if err := s.usable(); err != nil {
		return false, err
	}
	if err := s.follows(logs); err != nil {
		return false, err
	}
	if s.first == 0 {
		s.first = logs[0].Index
		s.durable.Store(s.first - 1)
	}
	for _, l := range logs {
		s.cache.add(l)
		s.spans.add(l.Index, loggedSize(l))
	}
	s.last.Store(logs[len(logs)-1].Index)
	s.queued += size
	s.cache.evict(s.durable.Load())
	s.work.Signal()
	return wait, nil
}

// usable is nil while the log can be changed; s.mu is held.
func (s *logStore) usable() error {
	if s.failed == nil && s.closed {
		return errLogClosed
	}
	return s.failed
}

// follows checks that entries continue the log; s.mu is held. The first entry
// of a new log may have any index.
func (s *logStore) follows(logs []*raft.Log) error {
	next := s.last.Load() + 1
	if next == 1 {
		next = logs[0].Index
	}
	for i, l := range logs {
		if l.Index != next+uint64(i) || l.Index == 0 {
			return fmt.Errorf("%w: entry %d where %d is next", errLogGap, l.Index, next+uint64(i))
		}
	}
	return nil
}

// write is the writer: it writes what is queued, all of it as one group, until
// the log is closed and the queue is empty, or a write failed.
func (s *logStore) write() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for s.failed == nil && (s.held || s.durable.Load() == s.last.Load() && !s.closed) {
			s.work.Wait()
		}
		if s.failed != nil || s.durable.Load() == s.last.Load() {
			return
		}
		s.writeGroup(s.cache.from(s.durable.Load()+1, groupBytes))
	}
}

// writeGroup writes a group; s.mu is held, but not while it does.
func (s *logStore) writeGroup(group []*raft.Log) {
	s.writing = true
	s.mu.Unlock()
	s.watch.begin(watchGroup)
	err := s.backend.StoreLogs(group)
	took := s.watch.end(watchGroup)
	if err != nil {
		err = s.fail(fmt.Errorf("write to the log: %w", err))
	}
	size, data := 0, 0
	for _, l := range group {
		size += loggedSize(l)
		data += len(l.Data)
	}
	if err == nil {
		s.meters.group(len(group), data, took)
	}
	s.mu.Lock()
	s.writing = false
	if err == nil && s.failed == nil {
		s.queued -= size
		s.advance(group[len(group)-1].Index)
	}
	s.idle.Broadcast()
}

// advance makes index the newest durable one and wakes who waited for it; s.mu
// is held.
func (s *logStore) advance(index uint64) {
	s.durable.Store(index)
	s.cache.evict(index)
	s.settle()
}

// fail makes the first failure final: the log is not used any more, and whoever
// waits is told. It returns that failure.
func (s *logStore) fail(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("the disk is full: %w; make room, then start this member again", err)
	}
	s.mu.Lock()
	if s.failed != nil {
		defer s.mu.Unlock()
		return s.failed
	}
	s.failed = err
	s.settle()
	s.work.Broadcast()
	s.idle.Broadcast()
	fatal := s.fatal
	s.mu.Unlock()
	s.log.Error().Err(err).Msg("the raft log failed")
	if fatal != nil {
		fatal(err)
	}
	return err
}

// Close writes what is queued, ends the writer and closes the backend.
func (s *logStore) Close() error {
	s.mu.Lock()
	s.closed = true
	s.work.Broadcast()
	s.idle.Broadcast()
	s.mu.Unlock()
	s.ended.Wait()
	s.mu.Lock()
	s.settle()
	failed := s.failed
	s.mu.Unlock()
	return errors.Join(failed, s.backend.Close())
}

// durableWait is somebody who waits for an index. Those of Flush do not mind
// when it is removed instead.
type durableWait struct {
	index   uint64
	flush   bool
	settled chan error // takes one
}

// Durable is the newest index on stable storage.
func (s *logStore) Durable() uint64 { return s.durable.Load() }

// Stuck is how long the write or sync under way has been running; 0 when there
// is none.
func (s *logStore) Stuck() time.Duration { return s.watch.stuck() }

// AwaitDurable returns nil once index is on stable storage, an error after a
// failure or a Close without it, or when quit closes; nil never does.
func (s *logStore) AwaitDurable(index uint64, quit <-chan struct{}) error {
	select {
	case <-quit: // who was told so of an earlier index must not hear otherwise of this one
		return errLogQuit
	default:
	}
	if s.durable.Load() >= index {
		return nil
	}
	return s.await(index, false, quit)
}

// Flush returns nil once everything stored before the call is on stable storage,
// or was removed; errors are those of AwaitDurable.
func (s *logStore) Flush(quit <-chan struct{}) error {
	last := s.last.Load()
	if s.durable.Load() >= last {
		return nil
	}
	return s.await(last, true, quit)
}

// await waits behind the fast path.
func (s *logStore) await(index uint64, flush bool, quit <-chan struct{}) error {
	w := s.begin(index, flush)
	select {
	case err := <-w.settled:
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.spare) < spareWaits {
			s.spare = append(s.spare, w)
		}
		return err
	case <-quit:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waits = slices.DeleteFunc(s.waits, func(o *durableWait) bool { return o == w })
		return errLogQuit // w may hold an answer and is not used again
	}
}

// begin registers a wait, which may be over already.
func (s *logStore) begin(index uint64, flush bool) *durableWait {
	s.mu.Lock()
	defer s.mu.Unlock()
	var w *durableWait
	if n := len(s.spare); n > 0 {
		w, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		w = &durableWait{settled: make(chan error, 1)}
	}
	w.index, w.flush = index, flush
	s.waits = append(s.waits, w)
	s.settle()
	return w
}

// settle answers those whose wait is over, and only those: usually a handful
// waits, one for each peer and the applier. s.mu is held.
func (s *logStore) settle() {
	kept := s.waits[:0]
	for _, w := range s.waits {
		if w.flush { // of what was removed there is nothing to wait for
			w.index = min(w.index, s.last.Load())
		}
		switch {
		case s.durable.Load() >= w.index:
			w.settled <- nil
		case s.failed != nil:
			w.settled <- s.failed
		case s.closed && s.durable.Load() == s.last.Load():
			w.settled <- errLogClosed
		default:
			kept = append(kept, w)
		}
	}
	clear(s.waits[len(kept):])
	s.waits = kept
}
