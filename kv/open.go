package kv

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// Open loads the state that tx sees. db is where the store reads from later:
// the database of tx. Buckets that do not exist yet are empty; Changes.Write
// makes them. A compaction that was not finished goes on with the next batches.
func Open(db *bbolt.DB, tx *bbolt.Tx, opts Options) (*Store, error) {
	s := &Store{opts: opts.withDefaults()}
	s.db.Store(db)
	scheduled, finished := int64(none), int64(none)
	if meta := tx.Bucket(bucketMeta); meta != nil {
		var err error
		if scheduled, err = readMetaRev(meta, metaScheduledComp); err != nil {
			return nil, err
		}
		if finished, err = readMetaRev(meta, metaFinishedComp); err != nil {
			return nil, err
		}
	}
	l := loader{s: s}
	l.tree.edit = s.nextEdit()
	l.tree.root = newLeaf(l.tree.edit)
	if err := l.loadLeases(tx); err != nil {
		return nil, err
	}
	if keys := tx.Bucket(bucketKey); keys != nil {
		if err := l.load(keys); err != nil {
			return nil, err
		}
	}
	s.compacted.Store(finished)
	compactRev := max(scheduled, finished)
	if compactRev > finished {
		s.prune.start(compactRev)
	}
	// The newest record may be the deletion that the compaction was about to
	// take, or took: the revision must not go back behind it.
	s.view.Store(&View{state{
		st: s, root: l.tree.root, rev: max(1, l.last, compactRev), compactRev: compactRev,
		leases: l.leases.root, granted: l.granted, clock: l.clock, renewals: l.renewals,
	}})
	return s, nil
}

func readMetaRev(meta *bbolt.Bucket, key []byte) (int64, error) {
	v := meta.Get(key)
	if v == nil {
		return none, nil
	}
	r, err := parseRevKey(v)
	if err != nil {
		return 0, fmt.Errorf("%w: %s in the meta bucket is %x, which is no revision", ErrCorrupt, key, v)
	}
	return r.main, nil
}

// A loader builds the index. It reads the records backwards, so that the first
// one seen of a key is its newest: only that one's value is looked at, and the
// newest values, by chunks, have the first claim on the budget.
type loader struct {
	s    *Store
	tree tree
	last int64     // main revision of the newest record
	keys []sortKey // reused

	leases   tree
	granted  int
	clock    int64
	renewals renewals
}

func (l *loader) load(keys *bbolt.Bucket) error {
	room := min(int64(l.s.opts.loadChunk), keys.Tx().Size()/minRecord+1)
	chunk := make([]unsorted, 0, room)
	c := keys.Cursor()
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		u, err := readUnsorted(k, v)
		if err != nil {
			return err
		}
		l.last = max(l.last, u.main)
		if chunk = append(chunk, u); len(chunk) == l.s.opts.loadChunk {
			l.insert(chunk)
			chunk = chunk[:0]
		}
	}
	l.insert(chunk)
	l.tree.root.ascend(nil, nil, func(e *entry) bool {
		e.oldestFirst()
		l.attach(e)
		return true
	})
	return nil
}

// readUnsorted reads a record of the key bucket, and checks what is in it.
func readUnsorted(k, v []byte) (u unsorted, err error) {
	rev, err := parseRevKey(k)
	if err != nil {
		return u, err
	}
	var rec record
	if !rec.decode(v) {
		return u, fmt.Errorf("%w: record %v in the key bucket cannot be decoded", ErrCorrupt, rev)
	}
	if rec.mod != rev.main && !rev.tomb && len(v) > 0 { // etcd's restore tool writes an empty one
		return u, fmt.Errorf("%w: record %v in the key bucket says that it is of revision %d", ErrCorrupt, rev, rec.mod)
	}
	u = unsorted{enc: v, main: rev.main, bits: rev.sub}
	if rev.tomb {
		u.bits |= bitTomb
	}
	if !bytes.Equal(rec.key, encodedKey(v)) { // of another program, which may order fields as it likes
		u.enc = rec.encode()
	}
	return u, nil
}

// loadEntry makes the entry of a key's newest record, which was decoded before.
func (s *Store) loadEntry(r *unsorted) *entry {
	var rec record
	rec.decode(r.enc)
	if rev := r.rev(); !rev.tomb {
		return s.entryOf(rev, &rec, nil)
	}
	return newEntry(r.rev(), &rec)
}

// addOlder returns e with a revision older than all of its own. While loading
// only: e is not shared yet, and its older revisions are newest first.
func (e *entry) addOlder(r revision) *entry {
	if l := e.long(); l != nil {
		l.hist.revs = append(l.hist.revs[:l.nhist], packRev(r))
		l.nhist++
		return e
	}
	old := e.old()
	return e.withOld(append(old[:len(old):len(old)], packRev(r)))
}

// oldestFirst ends the loading of e.
func (e *entry) oldestFirst() {
	revs := e.old()
	for i, j := 0, len(revs)-1; i < j; i, j = i+1, j-1 {
		revs[i], revs[j] = revs[j], revs[i]
	}
}
