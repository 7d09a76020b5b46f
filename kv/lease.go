package kv

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"sync/atomic"
)

// Leases are a second tree of the index's kind, so that views of them cost
// nothing. Below the eight bytes of a lease's id is the lease itself, and right
// behind it, below id and key, each key attached to it. A put without a lease
// pays for none of this.

// A Lease is a promise to keep the attached keys until a moment of the lease
// clock, which counts milliseconds while the cluster has a leader.
type Lease struct {
	ID       int64
	TTL      int64 // granted, in seconds
	Deadline int64 // on the lease clock; in a view, that of the newest renewal that was applied
}

// A LeaseChange is what became of one lease.
type LeaseChange struct {
	Lease
	Granted bool // it is new
	Gone    bool // revoked or expired
}

// leaseIDLen is the length of an id in the tree and in the file.
const leaseIDLen = 8

func leaseKey(id int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

func attachKey(id int64, key []byte) []byte {
	k := make([]byte, 0, leaseIDLen+len(key))
	return append(binary.BigEndian.AppendUint64(k, uint64(id)), key...)
}

// leaseEnd is the end of the part of the tree that belongs to id; nil for none.
func leaseEnd(id int64) []byte {
	if uint64(id) == math.MaxUint64 {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, uint64(id)+1)
}

// leaseEntry makes the tree's entry of a lease: an entry like others, whose
// record says the TTL where a key's says a revision, and whose main revision is the
// deadline.
//
// That is the one thing of an entry that changes while views have it: a renewal of
// a hundred thousand leases would copy all leaves of the tree, again and again, for
// numbers that nobody wants to know as they were.
func leaseEntry(l Lease) *entry {
	rec := record{key: leaseKey(l.ID), create: l.TTL}
	return newEntry(revision{main: l.Deadline}, &rec)
}

// leaseOf is the inverse of leaseEntry; ok is false for the entry of a key.
func leaseOf(e *entry) (l Lease, ok bool) {
	if len(e.key()) != leaseIDLen {
		return l, false
	}
	var rec record
	if !rec.decode(e.enc()) {
		panic("kv: a lease of the tree cannot be decoded")
	}
	return Lease{ID: int64(binary.BigEndian.Uint64(rec.key)), TTL: rec.create, Deadline: atomic.LoadInt64(&e.main)}, true
}

// LeaseClock returns the lease clock as far as it was agreed, in milliseconds.
func (s *state) LeaseClock() int64 { return s.clock }

// LeaseCount returns the number of leases.
func (s *state) LeaseCount() int { return s.granted }

// Lease returns the lease of an id.
func (s *state) Lease(id int64) (l Lease, found bool) {
	e := s.leases.get(leaseKey(id))
	if e == nil {
		return l, false
	}
	return leaseOf(e)
}

// LeaseKeys returns the keys attached to a lease, in order.
func (s *state) LeaseKeys(id int64) [][]byte {
	var keys [][]byte
	s.EachLeaseKey(id, func(key []byte) bool {
		keys = append(keys, key)
		return true
	})
	return keys
}

// LeaseKeyCount returns the number of keys attached to a lease.
func (s *state) LeaseKeyCount(id int64) int {
	return s.leases.count(append(leaseKey(id), 0), leaseEnd(id))
}

// attachments returns the tree's keys of what is attached to a lease, in order.
func (s *state) attachments(id int64) (keys [][]byte) {
	s.leases.ascend(append(leaseKey(id), 0), leaseEnd(id), func(e *entry) bool {
		keys = append(keys, e.key())
		return true
	})
	return keys
}

// EachLeaseKey calls fn for each key attached to a lease, in order, until fn
// returns false.
func (s *state) EachLeaseKey(id int64, fn func(key []byte) bool) {
	s.leases.ascend(leaseKey(id), leaseEnd(id), attachedTo(fn))
}

// EachAttachedKey calls fn for each key attached to any lease, until fn returns
// false.
func (s *state) EachAttachedKey(fn func(key []byte) bool) {
	s.leases.ascend(nil, nil, attachedTo(fn))
}

func attachedTo(fn func(key []byte) bool) func(*entry) bool {
	return func(e *entry) bool {
		k := e.key()
		return len(k) <= leaseIDLen || fn(k[leaseIDLen:])
	}
}

// Leases calls fn for each lease, ordered by id as an unsigned number, until fn
// returns false.
func (s *state) Leases(fn func(Lease) bool) {
	s.leases.ascend(nil, nil, func(e *entry) bool {
		l, ok := leaseOf(e)
		return !ok || fn(l)
	})
}

// leaseGranted reports whether keys can be attached to the lease, or to none.
func (b *Batch) leaseGranted(id int64) bool {
	return id == 0 || b.granted > 0 && b.leases.get(leaseKey(id)) != nil
}

// Grant makes a lease of ttl seconds from now on the lease clock. Error:
// ErrLeaseExists.
func (b *Batch) Grant(id, ttl int64) error {
	if b.leases.get(leaseKey(id)) != nil {
		return ErrLeaseExists
	}
	b.granted++
	l := Lease{ID: id, TTL: ttl, Deadline: b.clock + ttl*1000}
	b.leaseTree.upsert(leaseKey(id), func(*entry) *entry { return leaseEntry(l) })
	b.leases = b.leaseTree.root
	b.ch.leases = append(b.ch.leases, LeaseChange{Lease: l, Granted: true})
	b.ch.stored = append(b.ch.stored, leaseRecord{Lease: l})
	return nil
}

// Revoke ends a lease and deletes the keys attached to it, in order and within
// one revision; without keys the revision stays. Error: ErrLeaseNotFound.
func (b *Batch) Revoke(id int64) error {
	if b.leases.get(leaseKey(id)) == nil {
		return ErrLeaseNotFound
	}
	b.begin()
	attached := b.attachments(id)
	if n := len(attached); n > 0 {
		g := graves{b: b, left: n}
		for _, k := range attached {
			b.tree.upsert(k[leaseIDLen:], g.dig)
		}
		b.root = b.tree.root
	}
	b.leaseTree.remove(append([][]byte{leaseKey(id)}, attached...)...)
	b.leases = b.leaseTree.root
	b.granted--
	b.ch.leases = append(b.ch.leases, LeaseChange{Lease: Lease{ID: id}, Gone: true})
	b.ch.stored = append(b.ch.stored, leaseRecord{Lease: Lease{ID: id}, gone: true})
	return nil
}

// AdvanceLeases sets the lease clock, which never goes back, and gives the
// leases of renewed their whole TTL from there. Unknown ones are passed over.
func (b *Batch) AdvanceLeases(clock int64, renewed []int64) {
	if clock > b.clock {
		b.clock, b.ch.clock = clock, clock
	}
	known := make([]int64, 0, len(renewed))
	for group := range slices.Chunk(renewed, PrefetchGroup) {
		var keys [PrefetchGroup][]byte
		for i, id := range group {
			keys[i] = leaseKey(id)
		}
		b.lookAt(b.leases, keys[:len(group)])
		for i, id := range group {
			e := b.leases.get(keys[i])
			if e == nil {
				continue
			}
			l, _ := leaseOf(e)
			l.Deadline = b.clock + l.TTL*1000
			atomic.StoreInt64(&e.main, l.Deadline)
			b.ch.leases = append(b.ch.leases, LeaseChange{Lease: l})
			known = append(known, id)
		}
	}
	if len(known) > 0 {
		b.noteRenewals(known)
	}
}

// relet moves key from one lease to another, 0 standing for none. The first may not
// exist: a key of a foreign file may name such a one.
func (b *Batch) relet(key []byte, from, to int64) {
	if from == to || b.leases.live == 0 || len(key) == 0 {
		return
	}
	if from != 0 {
		if k := attachKey(from, key); b.leases.get(k) != nil {
			b.leaseTree.remove(k)
		}
	}
	if to != 0 && b.leaseTree.root.get(leaseKey(to)) != nil {
		attach(&b.leaseTree, to, key)
	}
	b.leases = b.leaseTree.root
}

func attach(t *tree, id int64, key []byte) {
	rec := record{key: attachKey(id, key)}
	t.upsert(rec.key, func(*entry) *entry { return newEntry(revision{}, &rec) })
}

// leaseIn returns the lease that an entry's newest record names.
func leaseIn(e *entry) int64 {
	var rec record
	if e == nil || e.dead() {
		return 0
	}
	if !rec.decode(e.enc()) {
		panic("kv: an entry of the index cannot be decoded")
	}
	return rec.lease
}

// sameLeases reports whether the tree is what keys and leases make of it.
func (s *state) sameLeases(o *state) bool {
	if s.granted != o.granted || s.clock != o.clock || s.renewals != o.renewals || s.leases.live != o.leases.live {
		return false
	}
	return s.leases.ascend(nil, nil, func(e *entry) bool {
		other := o.leases.get(e.key())
		return other != nil && bytes.Equal(other.enc(), e.enc()) && atomic.LoadInt64(&other.main) == atomic.LoadInt64(&e.main)
	})
}
