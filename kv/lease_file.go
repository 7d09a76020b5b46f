package kv

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// The lease bucket is etcd's: below the eight bytes of an id a leasepb.Lease.
// The deadline is a field of our own in it, which etcd skips and drops; later
// renewals are in a bucket of our own, see renewals.go. The lease clock is in the
// meta bucket, where etcd leaves alone what it does not know. So a file that etcd
// had for a while has leases with and without deadlines, and both make sense.
var (
	bucketLease    = []byte("lease")
	metaLeaseClock = []byte("conclaveLeaseClock")
)

// The fields of leasepb.Lease, and ours.
const (
	leaseFieldID        protowire.Number = 1
	leaseFieldTTL       protowire.Number = 2
	leaseFieldRemaining protowire.Number = 3
	leaseFieldDeadline  protowire.Number = 7000
)

func (l Lease) encode() []byte {
	var b []byte
	field := func(n protowire.Number, v int64) {
		if v != 0 {
			b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
		}
	}
	field(leaseFieldID, l.ID)
	field(leaseFieldTTL, l.TTL)
	// Also where it is zero: its absence says that etcd wrote the record.
	b = protowire.AppendTag(b, leaseFieldDeadline, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(l.Deadline))
}

// decodeLease reads a record of ours or etcd's. A lease of etcd's has the rest
// of its time, or if that is unknown all of it, from clock on.
func decodeLease(b []byte, clock int64) (l Lease, err error) {
	var remaining int64
	dated := false
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return l, protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64
		if kind == protowire.VarintType {
			v, n = protowire.ConsumeVarint(b)
		} else {
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return l, protowire.ParseError(n)
		}
		b = b[n:]
		switch field {
		case leaseFieldID:
			l.ID = int64(v)
		case leaseFieldTTL:
			l.TTL = int64(v)
		case leaseFieldRemaining:
			remaining = int64(v)
		case leaseFieldDeadline:
			l.Deadline, dated = int64(v), true
		}
	}
	if !dated {
		if remaining <= 0 {
			remaining = l.TTL
		}
		l.Deadline = clock + remaining*1000
	}
	return l, nil
}

// writeLeases carries changes of leases, and the clock, into the file.
func (c *Changes) writeLeases(tx *bbolt.Tx) error {
	if c.clock != none {
		meta, err := tx.CreateBucketIfNotExists(bucketMeta)
		if err != nil {
			return fmt.Errorf("create bucket %s: %w", bucketMeta, err)
		}
		if err := meta.Put(metaLeaseClock, binary.BigEndian.AppendUint64(nil, uint64(c.clock))); err != nil {
			return fmt.Errorf("write the lease clock: %w", err)
		}
	}
	if len(c.stored) > 0 {
		bucket, err := tx.CreateBucketIfNotExists(bucketLease)
		if err != nil {
			return fmt.Errorf("create bucket %s: %w", bucketLease, err)
		}
		for _, l := range c.stored {
			if l.gone {
				err = bucket.Delete(leaseKey(l.ID))
			} else {
				err = bucket.Put(leaseKey(l.ID), l.encode())
			}
			if err != nil {
				return fmt.Errorf("write lease %x: %w", l.ID, err)
			}
		}
	}
	return c.writeRenewals(tx)
}

// leaseRecord is a record of the lease bucket.
type leaseRecord struct {
	Lease
	gone bool
}

// loadLeases makes the tree of leases, still without keys.
func (l *loader) loadLeases(tx *bbolt.Tx) error {
	l.leases = tree{root: newLeaf(l.tree.edit), edit: l.tree.edit}
	if meta := tx.Bucket(bucketMeta); meta != nil {
		if v := meta.Get(metaLeaseClock); len(v) == 8 {
			l.clock = int64(binary.BigEndian.Uint64(v))
		} else if v != nil {
			return fmt.Errorf("%w: %s in the meta bucket is %x, which is no time", ErrCorrupt, metaLeaseClock, v)
		}
	}
	renewed, err := l.loadRenewals(tx)
	if err != nil {
		return err
	}
	bucket := tx.Bucket(bucketLease)
	if bucket == nil {
		return nil
	}
	return bucket.ForEach(func(k, v []byte) error {
		lease, err := decodeLease(v, l.clock)
		if err != nil || len(k) != leaseIDLen || lease.ID != int64(binary.BigEndian.Uint64(k)) {
			return fmt.Errorf("%w: lease %x in the lease bucket cannot be decoded", ErrCorrupt, k)
		}
		if clock, found := renewed[lease.ID]; found {
			lease.Deadline = max(lease.Deadline, clock+lease.TTL*1000)
		}
		l.leases.upsert(k, func(*entry) *entry { return leaseEntry(lease) })
		l.granted++
		return nil
	})
}

// attach adds a loaded key to the lease that it names, also if there is not that
// lease, which only a foreign file has: when it is granted, members that were
// restarted since and others have to know the same.
func (l *loader) attach(e *entry) {
	if id := leaseIn(e); id != 0 && len(e.key()) > 0 {
		attach(&l.leases, id, e.key())
	}
}

// leases compares the leases of a view with what tx sees.
func (c *checker) leases(tx *bbolt.Tx) error {
	l := loader{s: c.v.st}
	if err := l.loadLeases(tx); err != nil {
		return err
	}
	c.v.root.ascend(nil, nil, func(e *entry) bool {
		l.attach(e)
		return true
	})
	o := &state{leases: l.leases.root, granted: l.granted, clock: l.clock, renewals: l.renewals}
	if !c.v.sameLeases(o) {
		return fmt.Errorf("%w: leases differ between memory and file", ErrCorrupt)
	}
	return nil
}
