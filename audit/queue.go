package audit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrUnavailable: what must be recorded cannot be at present, and so is not done.
var ErrUnavailable = errors.New("the audit log cannot be written, and requests that it misses are refused")

// Bounds of what waits to be written.
const (
	maxRecords = 16 << 10
	maxBytes   = 16 << 20
	// patience is how long a request waits for room before it is refused.
	patience = time.Second
	// keepRecords is room that a queue keeps when it is empty.
	keepRecords = 2 << 10
)

// queue holds records between those who add them and the writer.
type queue struct {
	records int           // maxRecords but in tests
	most    int64         // maxBytes but in tests
	some    chan struct{} // holds one: there is something to write

	mu       sync.Mutex
	list     []Record
	bytes    int64
	reserved int           // places of requests that were admitted
	kept     int64         // bytes for their records
	room     chan struct{} // closed when there is room; nil: nobody waits
	failing  bool          // nothing can be written
	closed   bool
	dropped  uint64 // since the last take
	lost     uint64 // since the start
}

func newQueue() *queue {
	return &queue{records: maxRecords, most: maxBytes, some: make(chan struct{}, 1)}
}

// full reports whether there is no room for a record of so many bytes. With mu held.
func (q *queue) full(weight int64) bool {
	return len(q.list)+q.reserved >= q.records || q.bytes+q.kept+weight > q.most
}

// add takes a record, or counts it as dropped.
func (q *queue) add(r *Record) {
	r.clip()
	weight := r.weight()
	q.mu.Lock()
	kept := r.reserved > 0
	if kept {
		q.reserved--
		q.kept -= r.reserved
	}
	if q.closed || !kept && q.full(weight) {
		q.dropped++
		q.lost++
		q.mu.Unlock()
		return
	}
	q.list = append(q.list, *r)
	q.bytes += weight
	first := len(q.list) == 1
	q.mu.Unlock()
	if first {
		q.wake()
	}
}

func (q *queue) wake() {
	select {
	case q.some <- struct{}{}:
	default:
	}
}

// admit keeps a place for the record of a request, or says that there will be none.
func (q *queue) admit(ctx context.Context, r *Record) error {
	r.clip()
	weight := r.weight()
	var patient <-chan time.Time
	for {
		room, err := q.reserve(weight)
		if room == nil {
			if err == nil {
				r.reserved = weight
			}
			return err
		}
		if patient == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			patient = timer.C
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-patient:
			return ErrUnavailable
		}
	}
}

// reserve takes a place, or returns what to wait for.
func (q *queue) reserve(weight int64) (room <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.failing || q.closed:
		return nil, ErrUnavailable
	case !q.full(weight):
		q.reserved++
		q.kept += weight
		return nil, nil
	}
	if q.room == nil {
		q.room = make(chan struct{})
	}
	return q.room, nil
}

// take empties the queue into a list that the writer had before.
func (q *queue) take(used []Record) (list []Record, dropped uint64) {
	clear(used) // lets go of keys
	if used = used[:0]; cap(used) > keepRecords {
		used = nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	list, q.list, q.bytes = q.list, used, 0
	dropped, q.dropped = q.dropped, 0
	q.makeRoom()
	return list, dropped
}

func (q *queue) makeRoom() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// fail says whether writing works.
func (q *queue) fail(failing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failing = failing
	if failing {
		q.makeRoom() // they need not wait
	}
}

// close takes no more records.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.makeRoom()
}

// lose counts records that were taken and are not written.
func (q *queue) lose(n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost += n
}

func (q *queue) state() (waiting int, lost uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list), q.lost
}
