package kv

import (
	"bytes"
	"fmt"
	"sort"

	"go.etcd.io/bbolt"
)

// replayLimits bound one step of reading history.
type replayLimits struct {
	revisions int // looked at
	bytes     int // of events found
}

// A step looks at no more records than in some milliseconds, since the read
// transaction keeps pages of the file from being reused meanwhile.
var defaultReplay = replayLimits{revisions: 1000, bytes: 256 << 10}

// replayKey reads the events of a watch of one key from revision from on: whole
// revisions, up to end at least from or the view's own. Errors: ErrCompacted,
// ErrCorrupt, ErrClosed, those of reading the file.
func (v *View) replayKey(w *watch, from int64, l replayLimits) (events []*Event, end int64, err error) {
	return v.replay(from, l, func(r *replayer) error { return r.key(w) })
}

// replayAll is replayKey for the events of all keys.
func (v *View) replayAll(from int64, l replayLimits) (events []*Event, end int64, err error) {
	return v.replay(from, l, (*replayer).records)
}

func (v *View) replay(from int64, l replayLimits, read func(*replayer) error) (events []*Event, end int64, err error) {
	switch {
	case from < v.compactRev:
		return nil, 0, ErrCompacted
	case from > v.rev:
		return nil, from - 1, nil
	}
	r := &replayer{view: v, limits: l, pending: v.st.pending(), last: from - 1}
	err = read(r)
	// A compaction may have taken records away from the file while it was read.
	if from < v.st.View().compactRev {
		return nil, 0, ErrCompacted
	}
	if err != nil {
		return nil, 0, err
	}
	if !r.full {
		r.last = v.rev
	}
	return r.events, r.last, nil
}

// A replayer is one step of reading history.
type replayer struct {
	view    *View
	limits  replayLimits
	pending []*Changes

	events []*Event
	size   int
	looked int
	last   int64 // revision read, or begun
	full   bool  // the step ends with last
}

// room says whether a record of revision r is still part of the step.
func (r *replayer) room(rev revision) bool {
	if rev.main != r.last && (r.looked >= r.limits.revisions || r.size >= r.limits.bytes) {
		r.full = true
		return false
	}
	r.last = rev.main
	r.looked++
	return true
}

func (r *replayer) add(rev revision, enc []byte) {
	r.events = append(r.events, newEvent(rev, enc))
	r.size += len(enc)
}

// key reads the history of one key, which the index knows.
func (r *replayer) key(w *watch) error {
	e := r.view.root.get([]byte(w.key))
	if e == nil {
		return nil
	}
	revs, more := r.revisionsOf(e)
	err := r.view.st.read(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketKey)
		for _, rev := range revs {
			if !r.room(rev) {
				return nil
			}
			if w.ignores(rev.tomb) {
				continue
			}
			enc, err := r.encoding(bucket, e, rev)
			if err != nil {
				return err
			}
			r.add(rev, enc)
		}
		return nil
	})
	r.full = r.full || more
	return err
}

// revisionsOf returns the revisions of e that a step may have, whole ones, and
// whether there are more.
func (r *replayer) revisionsOf(e *entry) (revs []revision, more bool) {
	from := r.last + 1
	old := e.old()
	old = old[sort.Search(len(old), func(i int) bool { return old[i].main() >= from }):]
	revs = make([]revision, 0, min(len(old), r.limits.revisions)+1)
	for i := range len(old) + 1 {
		rev := e.rev()
		if i < len(old) {
			rev = old[i].unpack()
		}
		switch n := len(revs); {
		case rev.main < from:
			continue
		case n >= r.limits.revisions && rev.main != revs[n-1].main:
			return revs, true
		}
		revs = append(revs, rev)
	}
	return revs, false
}

// encoding finds the record of e's key at a revision.
func (r *replayer) encoding(bucket *bbolt.Bucket, e *entry, rev revision) ([]byte, error) {
	if rev.tomb || rev == e.rev() && e.whole() {
		return e.enc(), nil // of which a deletion takes the key
	}
	if enc, ok := findPending(r.pending, rev); ok {
		return enc, nil
	}
	if bucket != nil {
		var buf [revKeyLen + 1]byte
		if enc := bucket.Get(appendRevKey(buf[:0], rev)); enc != nil {
			return bytes.Clone(enc), nil
		}
	}
	return nil, fmt.Errorf("%w: record %v is not in the key bucket", ErrCorrupt, rev)
}

// records reads all records, first those that are in the file for sure and then
// those in memory.
func (r *replayer) records() error {
	unwritten := r.view.rev + 1
	for _, c := range r.pending {
		if len(c.recs) > 0 {
			unwritten = min(unwritten, c.recs[0].main)
			break
		}
	}
	if r.last+1 < unwritten {
		if err := r.view.st.read(func(tx *bbolt.Tx) error { return r.file(tx, unwritten) }); err != nil || r.full {
			return err
		}
	}
	from := r.last + 1
	for _, c := range r.pending {
		i := sort.Search(len(c.recs), func(i int) bool { return c.recs[i].main >= from })
		for ; i < len(c.recs); i++ {
			rec := &c.recs[i]
			if rec.main > r.view.rev || !r.room(rec.revision) {
				return nil
			}
			r.add(rec.revision, rec.enc)
		}
	}
	return nil
}

// file reads the records of the file before a revision.
func (r *replayer) file(tx *bbolt.Tx, before int64) error {
	bucket := tx.Bucket(bucketKey)
	if bucket == nil {
		return nil
	}
	cursor := bucket.Cursor()
	var buf [revKeyLen + 1]byte
	for k, enc := cursor.Seek(appendRevKey(buf[:0], revision{main: r.last + 1})); k != nil; k, enc = cursor.Next() {
		rev, err := parseRevKey(k)
		if err != nil {
			return err
		}
		if rev.main >= before || !r.room(rev) {
			return nil
		}
		r.add(rev, bytes.Clone(enc))
	}
	return nil
}
