package fsm

import (
	"errors"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/pki/ledger"
)

// Bounds on what is applied and not yet in the state file.
const (
	// dueRecords and dueBytes are what is worth a transaction of its own,
	// whatever the time: larger ones only make everybody wait longer.
	dueRecords = 10_000
	dueBytes   = 16 << 20
	// maxBacklog is where applying waits for the disk: what waits is in memory,
	// next to all keys, and a log written at 50 MB/s fills this in five seconds
	// in which the disk did nothing else. Backlog lets proposers stop before.
	maxBacklog = 256 << 20
)

// changeSet is what one publication changed, and where in the log it was. Parts
// that did not change are nil or empty.
type changeSet struct {
	at             position
	keys           *kv.Changes
	auth           *auth.Changes
	ledger         *ledger.Changes
	members        *Members
	alarms         *Alarms
	downgrade      *Downgrade
	anchors        []anchorChange
	clusterVersion string
	level          uint32 // 0: as it was
	other          int    // bytes of the requests that changed something else than keys
}

func (c *changeSet) write(tx *bbolt.Tx) error {
	var errs []error
	if c.keys != nil {
		errs = append(errs, c.keys.Write(tx))
	}
	if c.auth != nil {
		errs = append(errs, c.auth.Write(tx))
	}
	if c.ledger != nil {
		errs = append(errs, c.ledger.Write(tx))
	}
	if c.members != nil {
		errs = append(errs, c.members.write(tx))
	}
	if c.alarms != nil {
		errs = append(errs, c.alarms.write(tx))
	}
	if c.downgrade != nil {
		errs = append(errs, c.downgrade.write(tx))
	}
	if len(c.anchors) > 0 {
		errs = append(errs, writeAnchors(tx, c.anchors))
	}
	if c.level != 0 {
		errs = append(errs, writeLevel(tx, c.level))
	}
	if c.clusterVersion != "" {
		errs = append(errs, tx.Bucket(bucketCluster).Put(keyClusterVersion, []byte(c.clusterVersion)))
	}
	return errors.Join(errs...)
}

// records is how many records the set writes, at least one for its position.
func (c *changeSet) records() int {
	if c.keys == nil {
		return 1
	}
	return 1 + c.keys.Len()
}

// setBytes is about what a set takes beside its records.
const setBytes = 256

// bytes is about what the set takes of memory.
func (c *changeSet) bytes() int64 {
	n := setBytes + c.other
	if c.keys != nil {
		n += c.keys.Bytes()
	}
	if c.auth != nil {
		n += c.auth.Bytes()
	}
	return int64(n)
}

// queue holds change sets between apply and commit.
type queue struct {
	mu      sync.Mutex
	sets    []*changeSet
	records int
	pending int64         // bytes of sets
	room    chan struct{} // closed when backlog has fallen; nil: nobody waits
	ended   bool          // nothing will be committed any more

	backlog atomic.Int64 // bytes of sets and of those being committed
}

func (q *queue) push(c *changeSet) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sets = append(q.sets, c)
	q.records += c.records()
	q.pending += c.bytes()
	q.backlog.Add(c.bytes())
}

// take empties the queue; done follows when the sets are in the file.
func (q *queue) take() (sets []*changeSet, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	sets, bytes = q.sets, q.pending
	q.sets, q.records, q.pending = nil, 0, 0
	return sets, bytes
}

// done gives back the room of sets that were taken.
func (q *queue) done(bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.backlog.Add(-bytes)
	q.wake()
}

// end lets go who waits for room: there never will be.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.wake()
}

func (q *queue) wake() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// full returns a channel to wait for room on, nil where there is room.
func (q *queue) full(limit int64) <-chan struct{} {
	if q.backlog.Load() < limit {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.backlog.Load() < limit {
		return nil
	}
	if q.room == nil {
		q.room = make(chan struct{})
	}
	return q.room
}

func (q *queue) size() (records int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records, q.pending
}
