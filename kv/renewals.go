package kv

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
)

// Renewals are not written to the records of their leases at once. Leases have
// random ids, so that each would be a page of the file to write, and a hundred
// thousand leases are renewed by thousands in each second. Instead the file has
// lists of them, one after the other, and behind those a sweep goes through all
// leases in the order of their ids, a lease for every few renewals, and writes their
// records: neighbours share a page. A list from before a sweep began says nothing
// new when that has come to its end, and goes, so that there are at most two sweeps'
// renewals in lists: 64 bytes for each lease.
//
// All of it follows from what is agreed, so that the files of members stay alike.

// The bucket of the lists has, below the eight bytes of a number, the lease clock
// and the ids of the leases that had their whole TTL from then on, eight bytes each.
var (
	bucketRenewals = []byte("conclaveLeaseRenewals")
	metaRenewals   = []byte("conclaveLeaseSweep")
)

// renewalsPerRecord is how many renewals have the sweep write one record.
const renewalsPerRecord = 4

// renewals is where lists and sweep are.
type renewals struct {
	next   uint64 // number of the list that comes
	began  uint64 // what next was when the sweep began
	cursor int64  // the sweep goes on at this id
}

// renewalList is one list.
type renewalList struct {
	number uint64
	clock  int64
	ids    []int64
}

// noteRenewals lists leases that were renewed just now, and sweeps on.
func (b *Batch) noteRenewals(ids []int64) {
	b.ch.lists = append(b.ch.lists, renewalList{b.renewals.next, b.clock, ids})
	b.ch.bytes += 8 * len(ids)
	b.renewals.next++
	b.sweep((len(ids) + renewalsPerRecord - 1) / renewalsPerRecord)
	b.ch.renewals = b.renewals
}

// sweep writes the records of the next n leases, or of those that are left.
func (b *Batch) sweep(n int) {
	at, last := &b.renewals, false
	b.leases.ascend(leaseKey(at.cursor), nil, func(e *entry) bool {
		if l, ok := leaseOf(e); ok {
			b.ch.stored = append(b.ch.stored, leaseRecord{Lease: l})
			at.cursor, last = l.ID+1, l.ID == -1 // the greatest, as an unsigned number
			n--
		}
		return n > 0 && !last
	})
	if n > 0 || last {
		b.ch.forget = at.began
		at.began, at.cursor = at.next, 0
	}
}

// writeRenewals carries lists into the file.
func (c *Changes) writeRenewals(tx *bbolt.Tx) error {
	if len(c.lists) == 0 {
		return nil
	}
	bucket, err := tx.CreateBucketIfNotExists(bucketRenewals)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", bucketRenewals, err)
	}
	bucket.FillPercent = keyFillPercent // numbers only grow
	for _, l := range c.lists {
		if err := bucket.Put(binary.BigEndian.AppendUint64(nil, l.number), l.encode()); err != nil {
			return fmt.Errorf("write a list of renewals: %w", err)
		}
	}
	if err := forgetLists(bucket, c.forget); err != nil {
		return fmt.Errorf("remove a list of renewals: %w", err)
	}
	meta, err := tx.CreateBucketIfNotExists(bucketMeta)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", bucketMeta, err)
	}
	if err := meta.Put(metaRenewals, c.renewals.encode()); err != nil {
		return fmt.Errorf("write how far renewals are: %w", err)
	}
	return nil
}

// forgetLists removes the lists before a number.
func forgetLists(bucket *bbolt.Bucket, before uint64) error {
	var old [][]byte
	c := bucket.Cursor()
	for k, _ := c.First(); k != nil && binary.BigEndian.Uint64(k) < before; k, _ = c.Next() {
		old = append(old, k)
	}
	for _, k := range old {
		if err := bucket.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func (l *renewalList) encode() []byte {
	b := make([]byte, 0, 8+8*len(l.ids))
	b = binary.BigEndian.AppendUint64(b, uint64(l.clock))
	for _, id := range l.ids {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	return b
}

func (r renewals) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 24), r.next)
	b = binary.BigEndian.AppendUint64(b, r.began)
	return binary.BigEndian.AppendUint64(b, uint64(r.cursor))
}

// loadRenewals reads the lists: for each lease the newest time of the lease clock
// at which it was renewed.
func (l *loader) loadRenewals(tx *bbolt.Tx) (map[int64]int64, error) {
	if meta := tx.Bucket(bucketMeta); meta != nil {
		switch v := meta.Get(metaRenewals); {
		case len(v) == 24:
			l.renewals = renewals{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:]), int64(binary.BigEndian.Uint64(v[16:]))}
		case v != nil:
			return nil, fmt.Errorf("%w: %s in the meta bucket is %x, which is no place", ErrCorrupt, metaRenewals, v)
		}
	}
	newest := make(map[int64]int64)
	bucket := tx.Bucket(bucketRenewals)
	if bucket == nil {
		return newest, nil
	}
	return newest, bucket.ForEach(func(k, v []byte) error {
		if len(k) != 8 || len(v) < 8 || len(v)%8 != 0 {
			return fmt.Errorf("%w: list %x of renewals cannot be decoded", ErrCorrupt, k)
		}
		clock := int64(binary.BigEndian.Uint64(v))
		for v = v[8:]; len(v) > 0; v = v[8:] {
			id := int64(binary.BigEndian.Uint64(v))
			newest[id] = max(newest[id], clock)
		}
		return nil
	})
}
