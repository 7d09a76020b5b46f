package kv

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A revision names one record: main counts write requests, sub the writes
// inside one request.
type revision struct {
	main int64
	sub  uint32 // at most maxSub
	tomb bool   // the record is a deletion
}

// maxSub bounds the writes of one request: the two upper bits of a stored sub
// are flags.
const maxSub = 1<<30 - 1

// The flag bits that entries and oldRevs keep above the sub revision.
const (
	bitTomb  = 1 << 31 // the record is a deletion
	bitWhole = 1 << 30 // entry.enc() is the complete record, value included
)

// revKeyLen is the length of a record's key in the key bucket: main (8 bytes,
// big-endian), '_', sub (8 bytes, big-endian). Deletions append 't'.
const revKeyLen = 17

const (
	revSeparator = '_'
	revTombMark  = 't'
)

// before orders revisions as the key bucket does.
func (r revision) before(o revision) bool {
	return r.main < o.main || r.main == o.main && r.sub < o.sub
}

func (r revision) String() string {
	mark := ""
	if r.tomb {
		mark = string(revTombMark)
	}
	return fmt.Sprintf("%d_%d%s", r.main, r.sub, mark)
}

// appendRevKey appends the key of record r in the key bucket to buf.
func appendRevKey(buf []byte, r revision) []byte {
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.main))
	buf = append(buf, revSeparator)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.sub))
	if r.tomb {
		buf = append(buf, revTombMark)
	}
	return buf
}

// parseRevKey is the inverse of appendRevKey.
func parseRevKey(k []byte) (revision, error) {
	var r revision
	switch {
	case len(k) == revKeyLen+1 && k[revKeyLen] == revTombMark:
		r.tomb = true
	case len(k) != revKeyLen:
		return r, fmt.Errorf("%w: key bucket holds the key %x, which is no revision", ErrCorrupt, k)
	}
	main, sub := binary.BigEndian.Uint64(k), binary.BigEndian.Uint64(k[9:])
	if k[8] != revSeparator || main > math.MaxInt64 || sub > maxSub {
		return r, fmt.Errorf("%w: key bucket holds the key %x, which is no revision", ErrCorrupt, k)
	}
	r.main, r.sub = int64(main), uint32(sub)
	return r, nil
}

// An oldRev is a revision in 12 bytes, without alignment to 8.
type oldRev struct {
	hi, lo uint32 // main
	bits   uint32 // sub and bitTomb
}

func packRev(r revision) oldRev {
	bits := r.sub
	if r.tomb {
		bits |= bitTomb
	}
	return oldRev{hi: uint32(uint64(r.main) >> 32), lo: uint32(r.main), bits: bits}
}

func (o oldRev) main() int64 { return int64(uint64(o.hi)<<32 | uint64(o.lo)) }

func (o oldRev) unpack() revision {
	return revision{main: o.main(), sub: o.bits & maxSub, tomb: o.bits&bitTomb != 0}
}
