package kv

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// Check compares the newest view with what tx sees, record by record, and
// verifies the index itself. All changes must have been written and reported
// Done, and no batch be open. The error wraps ErrCorrupt and says what differs.
func (s *Store) Check(tx *bbolt.Tx) error {
	if n := len(s.pending()); n != 0 {
		return fmt.Errorf("check of the key-value state: %d change sets are not written yet", n)
	}
	v := s.View()
	c := checker{v: v, want: map[string]int{}}
	if err := c.node(v.root, nil, nil); err != nil {
		return err
	}
	if keys := tx.Bucket(bucketKey); keys != nil {
		if err := keys.ForEach(c.record); err != nil {
			return err
		}
	}
	if len(c.want) != 0 {
		return fmt.Errorf("%w: %d revisions of the index are not in the key bucket", ErrCorrupt, len(c.want))
	}
	if c.inline != s.inline {
		return fmt.Errorf("%w: %d bytes are inline, %d accounted for", ErrCorrupt, c.inline, s.inline)
	}
	if err := c.leases(tx); err != nil {
		return err
	}
	return c.meta(tx)
}

// A checker holds the revisions of the index until the file shows them.
type checker struct {
	v      *View
	want   map[string]int // by key in the key bucket
	inline int64
}

// node verifies the order and the counts beneath n, whose keys are in [lo, hi),
// and collects its revisions.
func (c *checker) node(n *node, lo, hi []byte) error {
	live := 0
	prev := lo
	for i, e := range n.entries {
		k := e.key()
		if i > 0 && bytes.Compare(prev, k) >= 0 || bytes.Compare(k, lo) < 0 || hi != nil && bytes.Compare(k, hi) >= 0 {
			return fmt.Errorf("%w: key %q is out of order in the index", ErrCorrupt, k)
		}
		prev = k
		if n.find(k, tagOf(k)) != i {
			return fmt.Errorf("%w: key %q is not found in its index node", ErrCorrupt, k)
		}
		live += alive(e)
		if err := c.entry(e); err != nil {
			return err
		}
	}
	for i, kid := range n.kids {
		l, h := lo, hi
		if i > 0 {
			l = []byte(n.seps.keys[i-1])
		}
		if i < len(n.seps.keys) {
			h = []byte(n.seps.keys[i])
		}
		if err := c.node(kid, l, h); err != nil {
			return err
		}
		live += kid.live
	}
	if live != n.live {
		return fmt.Errorf("%w: an index node counts %d living keys and has %d", ErrCorrupt, n.live, live)
	}
	return nil
}

func (c *checker) entry(e *entry) error {
	c.inline += e.inlineSize()
	last := revision{}
	revs := make([]revision, 0, len(e.old())+1)
	for _, o := range e.old() {
		revs = append(revs, o.unpack())
	}
	for _, r := range append(revs, e.rev()) {
		if !last.before(r) {
			return fmt.Errorf("%w: revision %v of key %q follows %v", ErrCorrupt, r, e.key(), last)
		}
		last = r
		c.want[string(appendRevKey(nil, r))]++
	}
	return nil
}

// record verifies one record of the file.
func (c *checker) record(k, enc []byte) error {
	r, err := parseRevKey(k)
	if err != nil {
		return err
	}
	if c.want[string(k)] != 1 {
		return fmt.Errorf("%w: record %v of the key bucket is %d times in the index", ErrCorrupt, r, c.want[string(k)])
	}
	delete(c.want, string(k))
	var rec record
	if !rec.decode(enc) {
		return fmt.Errorf("%w: record %v cannot be decoded", ErrCorrupt, r)
	}
	e := c.v.root.get(rec.key)
	if e == nil {
		return fmt.Errorf("%w: key %q of record %v is not in the index", ErrCorrupt, rec.key, r)
	}
	if e.rev() == r && e.whole() && !bytes.Equal(e.enc(), enc) {
		return fmt.Errorf("%w: record %v differs between index and file", ErrCorrupt, r)
	}
	return nil
}

func (c *checker) meta(tx *bbolt.Tx) error {
	scheduled := int64(none)
	if meta := tx.Bucket(bucketMeta); meta != nil {
		var err error
		if scheduled, err = readMetaRev(meta, metaScheduledComp); err != nil {
			return err
		}
	}
	if scheduled != c.v.compactRev {
		return fmt.Errorf("%w: compacted to %d, the file says %d", ErrCorrupt, c.v.compactRev, scheduled)
	}
	return nil
}
