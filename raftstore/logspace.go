package raftstore

import (
	"sync/atomic"
	"time"
)

const (
	// lowSpaceBytes is how much must be free where the log is for writes to be
	// taken: the next segment of the log (64 MiB) is reserved as a whole when one
	// is full, and the one after that before a truncation frees any.
	lowSpaceBytes = 128 << 20
	// lowSpaceEvery is how often that is looked at.
	lowSpaceEvery = time.Second
)

// spaceWatch knows whether the disk is nearly full.
type spaceWatch struct {
	free    func() (int64, error) // nil: there is no disk
	base    time.Time
	looking atomic.Bool
	looked  atomic.Int64 // nanoseconds from base, plus one; 0: never
	low     atomic.Bool
}

// isLow looks at the disk if nobody did within lowSpaceEvery or does now, and
// else tells what was seen then. A disk that cannot be asked is not low.
func (w *spaceWatch) isLow() bool {
	now := int64(time.Since(w.base)) + 1
	if at := w.looked.Load(); w.free == nil || at > 0 && now-at < int64(lowSpaceEvery) || !w.looking.CompareAndSwap(false, true) {
		return w.low.Load()
	}
	defer w.looking.Store(false)
	free, err := w.free()
	w.low.Store(err == nil && free < lowSpaceBytes)
	w.looked.Store(now)
	return w.low.Load()
}

// lowSpace reports whether the log's disk is nearly full, so that nothing more
// should be proposed: a log that cannot be written ends the process. It is
// cheap. While the disk hangs nothing new is learned, for asking might hang too.
func (s *logStore) lowSpace() bool {
	if s.watch.stuck() > lowSpaceEvery {
		return s.space.low.Load()
	}
	return s.space.isLow()
}
