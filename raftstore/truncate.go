package raftstore

import (
	"cmp"
	"fmt"
	"sync"
	"time"
)

// The log is truncated when it exceeds truncateBytes, whatever the count of its
// entries, and then holds at most trailingBytes, unless the state file or an
// install needs more.
const (
	truncateBytes = 128 << 20
	trailingBytes = 64 << 20
	// truncateEvery is how often the log is looked at. A truncation costs a sync
	// or two.
	truncateEvery = time.Second
)

// Entries behind a snapshot that is sent are kept while it is installed, and
// for holdAfter after that: the new member fetches them next, and would else
// need install after install while writes go on. They are given up beyond
// holdBytes, or twice the size of the snapshot if that is more: fetching so
// much takes longer than another install.
const (
	holdAfter = time.Minute
	holdBytes = 1 << 30
)

// truncation removes entries from the beginning of the log that the state file
// has.
//
// It does not go through raft's own snapshots. Those truncate to a distance
// from the end that is fixed before they wait for the disk, so that what is
// kept for an install may be removed meanwhile; they do nothing after a restart
// until the next command, or while a membership change is under way. And raft
// has no need to be told: it reads an entry that is gone as ErrLogNotFound and
// sends the state instead, whether it removed the entry itself or not. It is
// never past the synced position, on a leader or a follower, because that is
// read before and only rises; a restart begins there. The entry at that
// position stays, so that a member that was sent that state finds the entry
// before the first it asks for.
type truncation struct {
	node  *Node
	holds *logHolds
	done  uint64 // synced position at the last one
}

// shrinkable is the log as a truncation needs it.
type shrinkable interface {
	// Span is the first and last index, zero for an empty log, and the bytes
	// between them.
	Span() (first, last uint64, bytes int64)
	// FirstWithin is the lowest index from which the entries to the end take
	// at most bytes.
	FirstWithin(bytes int64) uint64
	DeleteRange(first, last uint64) error
}

// truncateLog looks after the log until the node stops.
func (n *Node) truncateLog() {
	if n.cfg.SnapshotCount == 0 {
		return
	}
	t := &truncation{node: n, holds: n.holds}
	tick := time.NewTicker(cmp.Or(n.cfg.truncateEvery, truncateEvery))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
		if err := t.step(); err != nil {
			n.cfg.Log.Error().Err(err).Msg("the log was not truncated")
		}
	}
}

// step truncates the log if it is time to.
func (t *truncation) step() error {
	n := t.node
	n.instances <- struct{}{} // no install puts another state in its place meanwhile
	defer func() { <-n.instances }()
	synced, _ := n.cfg.Machine.Synced().Position()
	// What Open replayed, raft reads again when it learns that it is agreed.
	synced = min(synced, n.raft().AppliedIndex())
	first, last, bytes := n.logs.Span()
	t.done = max(t.done, first)
	if synced < t.done+n.cfg.SnapshotCount && bytes <= truncateBytes {
		return nil
	}
	keep := keepFrom(n.logs, synced, n.cfg.SnapshotCatchUpEntries, t.holds.lowest(time.Now()))
	if first == 0 || keep <= first {
		return nil
	}
	if err := n.logs.DeleteRange(first, keep-1); err != nil {
		return fmt.Errorf("truncate the log: %w", err)
	}
	t.done = synced
	_, _, left := n.logs.Span()
	n.cfg.Log.Info().Uint64("first-index", keep).Uint64("last-index", last).Uint64("state-index", synced).
		Int64("bytes", left).Msg("truncated the log")
	return nil
}

// keepFrom is the first entry that must stay in the log.
func keepFrom(log shrinkable, synced, catchUp uint64, held logHold) uint64 {
	_, last, _ := log.Span()
	keep := min(log.FirstWithin(trailingBytes), last)
	if last > catchUp {
		keep = max(keep, last-catchUp+1)
	}
	keep = min(keep, synced)
	if held.index > 0 && held.index < keep {
		keep = min(keep, max(held.index, log.FirstWithin(max(holdBytes, 2*held.size))))
	}
	return keep
}

// logHolds are the positions behind which entries are still needed.
type logHolds struct {
	after time.Duration // the end of an install

	mu    sync.Mutex
	holds map[*logHold]bool
}

// logHold is a snapshot that is being sent, or was.
type logHold struct {
	index uint64 // 0 for none
	size  int64  // of the snapshot, in bytes
	until time.Time
}

// expired is called with the lock of logHolds held.
func (h *logHold) expired(now time.Time) bool { return !h.until.IsZero() && now.After(h.until) }

func newLogHolds(after time.Duration) *logHolds {
	return &logHolds{after: after, holds: map[*logHold]bool{}}
}

// hold keeps the entries from index on, until some time after release.
func (h *logHolds) hold(index uint64) *logHold {
	held := &logHold{index: index}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for old := range h.holds {
		if old.expired(now) {
			delete(h.holds, old)
		}
	}
	h.holds[held] = true
	return held
}

// sized says how large the snapshot is that a hold is for.
func (h *logHolds) sized(held *logHold, size int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held.size = size
}

// release ends a hold: at once if its snapshot was not sent, because nobody
// could be reached, say.
func (h *logHolds) release(held *logHold, sent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sent {
		held.until = time.Now().Add(h.after)
		return
	}
	delete(h.holds, held)
}

// lowest is the hold that reaches back farthest.
func (h *logHolds) lowest(now time.Time) logHold {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lowest logHold
	for held := range h.holds {
		if !held.expired(now) && (lowest.index == 0 || held.index < lowest.index) {
			lowest = *held
		}
	}
	return lowest
}
