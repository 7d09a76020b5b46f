package kv

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// A state is what can be read at one moment: a view, or a batch in the making.
type state struct {
	st         *Store
	root       *node
	rev        int64    // newest revision
	compactRev int64    // older ones than this cannot be read; -1: none
	own        *Changes // records of the batch in the making; nil in a view
	leases     *node    // see lease.go
	granted    int      // leases there are
	clock      int64    // the lease clock as agreed, in milliseconds
	renewals   renewals // how far they are in the file
	room       *Room    // for what is read; nil: there is no bound
}

// A span is a range of keys as requests give it: one key, or [lo, hi) with a
// nil hi for no end.
type span struct {
	lo, hi []byte
	single bool
}

// spanOf reads a request's key and range_end: none for one key, a zero byte
// for all keys from key on.
func spanOf(key, end []byte) span {
	switch {
	case len(end) == 0:
		return span{lo: key, single: true}
	case len(end) == 1 && end[0] == 0:
		return span{lo: key}
	}
	return span{lo: key, hi: end}
}

// A hit is a key of the index and the record of it that a read sees.
type hit struct {
	e   *entry
	rev revision
}

func (h hit) current() bool { return h.rev.main == h.e.main && h.rev.sub == h.e.rev().sub }

// seek calls fn for the living keys of sp at revision rev, in order, until fn
// returns false.
func (s *state) seek(sp span, rev int64, fn func(hit) bool) {
	visit := func(e *entry) bool {
		r, ok := e.at(rev)
		return !ok || fn(hit{e, r})
	}
	if !sp.single {
		s.root.walk(sp.lo, sp.hi, rev >= s.rev, visit)
	} else if e := s.root.get(sp.lo); e != nil {
		visit(e)
	}
}

// count returns how many keys of sp live at revision rev: O(log n) at the
// newest, else by looking at each key of the range.
func (s *state) count(sp span, rev int64) int {
	if rev >= s.rev && !sp.single {
		return s.root.count(sp.lo, sp.hi)
	}
	n := 0
	s.seek(sp, rev, func(hit) bool { n++; return true })
	return n
}

// A read transaction ends after this many records or bytes, so that a long
// range keeps neither pages from being reused nor the file from growing.
const (
	chunkRecords = 1000
	chunkBytes   = 1 << 20
)

// load fills kvs[i] with the record of hits[i], read at revision at. Where the
// value is not wanted it may be missing.
func (s *state) load(hits []hit, kvs []mvccpb.KeyValue, at int64, values bool) error {
	var onDisk []int
	var pending []*Changes
	listed := false
	for i, h := range hits {
		enc := h.e.enc()
		if !h.current() || values && !h.e.whole() {
			if !listed {
				pending, listed = s.st.pending(), true
			}
			var ok bool
			if enc, ok = s.unwritten(pending, h.rev); !ok {
				onDisk = append(onDisk, i)
				continue
			}
		}
		if !fill(&kvs[i], enc) {
			return fmt.Errorf("%w: record %v cannot be decoded", ErrCorrupt, h.rev)
		}
	}
	for len(onDisk) > 0 {
		n, err := s.loadChunk(onDisk, hits, kvs, at)
		if err != nil {
			return err
		}
		onDisk = onDisk[n:]
	}
	return nil
}

func (s *state) unwritten(pending []*Changes, r revision) ([]byte, bool) {
	if s.own != nil {
		if enc, ok := s.own.find(r); ok {
			return enc, true
		}
	}
	return findPending(pending, r)
}

// loadChunk reads records from the file in one transaction, and returns how
// many of them it did.
func (s *state) loadChunk(which []int, hits []hit, kvs []mvccpb.KeyValue, at int64) (n int, err error) {
	err = s.st.read(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketKey)
		size := 0
		var buf [revKeyLen + 1]byte
		for n < len(which) && n < chunkRecords && size < chunkBytes {
			i := which[n]
			var stored []byte
			if bucket != nil {
				stored = bucket.Get(appendRevKey(buf[:0], hits[i].rev))
			}
			if stored == nil {
				return s.missing(hits[i].rev, at)
			}
			// The file's memory is valid inside the transaction only.
			if !fill(&kvs[i], append([]byte(nil), stored...)) {
				return fmt.Errorf("%w: record %v cannot be decoded", ErrCorrupt, hits[i].rev)
			}
			size += len(stored)
			n++
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrCompacted) {
		return 0, fmt.Errorf("read from the state file: %w", err)
	}
	return n, err
}

// missing explains why a record of the index is not in the file: a compaction
// newer than this state may have taken it, if it was read at an older revision.
func (s *state) missing(r revision, at int64) error {
	if at < s.st.View().compactRev {
		return ErrCompacted
	}
	return fmt.Errorf("%w: record %v is not in the key bucket", ErrCorrupt, r)
}

// fill sets kv from an encoding, which kv then shares.
func fill(kv *mvccpb.KeyValue, enc []byte) bool {
	var r record
	if !r.decode(enc) {
		return false
	}
	kv.Key, kv.Value = r.key, r.value
	kv.CreateRevision, kv.ModRevision = r.create, r.mod
	kv.Version, kv.Lease = r.version, r.lease
	return true
}

// loadOne returns the record of h, read at revision at.
func (s *state) loadOne(h hit, at int64) (*mvccpb.KeyValue, error) {
	kv := new(mvccpb.KeyValue)
	if h.current() && h.e.whole() {
		if !fill(kv, h.e.enc()) {
			return nil, fmt.Errorf("%w: record %v cannot be decoded", ErrCorrupt, h.rev)
		}
		return kv, nil
	}
	kvs := make([]mvccpb.KeyValue, 1)
	err := s.load([]hit{h}, kvs, at, true)
	return &kvs[0], err
}

// get returns the newest living record of key, or nil.
func (s *state) get(key []byte) (*mvccpb.KeyValue, error) {
	e := s.root.get(key)
	if e == nil || e.dead() {
		return nil, nil
	}
	return s.loadOne(hit{e, e.rev()}, s.rev)
}
