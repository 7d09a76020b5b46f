package kv

import (
	"fmt"
	"sort"

	"go.etcd.io/bbolt"
)

// The buckets and meta keys of the state file, as etcd names them.
var (
	bucketKey         = []byte("key")
	bucketMeta        = []byte("meta")
	metaScheduledComp = []byte("scheduledCompactRev")
	metaFinishedComp  = []byte("finishedCompactRev")
)

// etcd fills the pages of the key bucket to nine tenths: revisions only grow,
// so that space left in a page would never be used.
const keyFillPercent = 0.9

// none stands for a compaction that there is not; 0 is one that etcd accepts.
const none = -1

// leaseBytes is about what a changed lease takes, or its record, in bytes.
const leaseBytes = 40

// A change is one record to be written. The encoding belongs to the change and
// its readers for good; nobody alters it.
type change struct {
	revision
	enc []byte
}

// Changes is what one batch does to the state file. Until Done, the store
// reads the records from here; it stays readable while and after it is written.
type Changes struct {
	st       *Store
	recs     []change   // ascending by revision
	drops    []revision // records that compaction takes away
	schedule int64      // newest compaction asked for, or none
	finished int64      // compaction whose last deletions are in drops, or none
	last     int64      // revision of the store after the batch
	bytes    int        // of recs' encodings
	leases   []LeaseChange
	clock    int64         // the lease clock, or none
	stored   []leaseRecord // of the lease bucket, in order
	lists    []renewalList
	forget   uint64   // lists before this one go
	renewals renewals // after lists
}

// Len returns the number of records that Write puts or deletes.
func (c *Changes) Len() int { return len(c.recs) + len(c.drops) + len(c.stored) + len(c.lists) }

// Pruned is how many records a compaction takes away with these changes.
func (c *Changes) Pruned() int { return len(c.drops) }

// Leases returns what became of leases, in order; the caller must not change it.
func (c *Changes) Leases() []LeaseChange { return c.leases }

// Bytes returns about what the changes take, in bytes.
func (c *Changes) Bytes() int {
	return c.bytes + len(c.recs)*revKeyLen + (len(c.leases)+len(c.stored))*leaseBytes
}

// Empty reports whether Write has nothing to do.
func (c *Changes) Empty() bool {
	return len(c.recs) == 0 && len(c.drops) == 0 && c.schedule == none && c.finished == none &&
		len(c.leases) == 0 && c.clock == none
}

// Write carries the changes into the state file. Changes are written in the
// order in which their batches were frozen, several to a transaction if the
// caller likes. It may run beside the writer and all readers.
func (c *Changes) Write(tx *bbolt.Tx) error {
	keys, err := tx.CreateBucketIfNotExists(bucketKey)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", bucketKey, err)
	}
	keys.FillPercent = keyFillPercent
	var buf [revKeyLen + 1]byte
	for i := range c.recs {
		r := &c.recs[i]
		if err := keys.Put(appendRevKey(buf[:0], r.revision), r.enc); err != nil {
			return fmt.Errorf("write record %v: %w", r.revision, err)
		}
	}
	for _, r := range c.drops {
		if err := keys.Delete(appendRevKey(buf[:0], r)); err != nil {
			return fmt.Errorf("delete compacted record %v: %w", r, err)
		}
	}
	if err := c.writeLeases(tx); err != nil {
		return err
	}
	return c.writeMeta(tx)
}

func (c *Changes) writeMeta(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(bucketMeta)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", bucketMeta, err)
	}
	for _, m := range []struct {
		key []byte
		rev int64
	}{{metaScheduledComp, c.schedule}, {metaFinishedComp, c.finished}} {
		if m.rev == none {
			continue
		}
		if err := meta.Put(m.key, appendRevKey(nil, revision{main: m.rev})); err != nil {
			return fmt.Errorf("write %s: %w", m.key, err)
		}
	}
	return nil
}

// Done says that these changes, and all frozen before them, are in the file
// for every bbolt transaction begun from now on. It is called after the
// transaction of Write was committed, by one goroutine at a time.
func (c *Changes) Done() {
	if c.Empty() {
		return
	}
	c.st.written(c)
}

// find returns the encoding of record r.
func (c *Changes) find(r revision) ([]byte, bool) {
	i := sort.Search(len(c.recs), func(i int) bool { return !c.recs[i].before(r) })
	if i < len(c.recs) && c.recs[i].main == r.main && c.recs[i].sub == r.sub {
		return c.recs[i].enc, true
	}
	return nil, false
}
