package kv

import (
	"bytes"
	"errors"
	"hash"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

// A Hash is the checksum of a history, equal to etcd's HashKV of the same one.
type Hash struct {
	Sum        uint32
	Revision   int64 // records up to this revision are in it
	CompactRev int64 // of the store when it was computed; -1: none
	CurrentRev int64
}

// hashRetries bounds how often HashKV begins again because a compaction took
// records away while it was reading.
const hashRetries = 5

// HashKV hashes the records up to revision rev, 0 for the newest. It reads the
// whole file in short transactions. Errors: ErrCompacted, ErrFutureRevision,
// ErrCorrupt.
func (s *Store) HashKV(rev int64) (Hash, error) {
	return s.HashKVBeside(rev, func() error { return nil })
}

// HashKVBeside is HashKV that leaves time to others: rest is called after each
// thousand records or MiB, outside of any transaction, and its error ends it.
func (s *Store) HashKVBeside(rev int64, rest func() error) (Hash, error) {
	for try := 0; ; try++ {
		v := s.View()
		h, err := v.hashKV(rev, rest)
		if err == nil && s.View().compactRev != v.compactRev {
			err = ErrCompacted
		}
		if !errors.Is(err, ErrCompacted) || try == hashRetries || rev > 0 && rev < s.View().compactRev {
			return h, err
		}
	}
}

func (v *View) hashKV(rev int64, rest func() error) (Hash, error) {
	at, err := v.readRev(rev)
	if err != nil {
		return Hash{}, err
	}
	h := hasher{v: v, at: at, keepAt: at, sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	if v.count(span{}, at) == 0 {
		h.keepAt = v.compactRev
	}
	h.sum.Write(bucketKey)
	pending := v.st.pending() // before the file is read
	if err := h.file(rest); err != nil {
		return Hash{}, err
	}
	for _, c := range pending {
		for i := range c.recs {
			if r := &c.recs[i]; h.last.before(r.revision) {
				if err := h.feed(r.revision, appendRevKey(nil, r.revision), r.enc); err != nil {
					return Hash{}, err
				}
			}
		}
	}
	return Hash{Sum: h.sum.Sum32(), Revision: at, CompactRev: v.compactRev, CurrentRev: v.rev}, nil
}

// A hasher feeds the records of a view to a checksum, in order of revision.
type hasher struct {
	v  *View
	at int64 // newest revision to be hashed
	// keepAt is the revision at which a compacted record must be visible to
	// count. It is the hashed one, as in etcd, which takes from its index what
	// a compaction there would keep. If that is nothing, etcd hashes what the
	// last compaction has kept.
	keepAt int64
	sum    hash.Hash32
	last   revision // newest record looked at
}

// file feeds what lies in the file, in transactions of bounded length.
func (h *hasher) file(rest func() error) error {
	for more := true; more; {
		err := h.v.st.read(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(bucketKey)
			if bucket == nil {
				more = false
				return nil
			}
			var err error
			more, err = h.chunk(bucket.Cursor())
			return err
		})
		if err == nil && more {
			err = rest()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *hasher) chunk(c *bbolt.Cursor) (more bool, err error) {
	from := appendRevKey(nil, h.last)
	k, val := c.Seek(from)
	if h.last.main > 0 && bytes.HasPrefix(k, from[:revKeyLen]) {
		k, val = c.Next()
	}
	size := 0
	for n := 0; k != nil; k, val = c.Next() {
		if n == chunkRecords || size >= chunkBytes {
			return true, nil
		}
		r, err := parseRevKey(k)
		if err != nil {
			return false, err
		}
		if r.main > h.at {
			return false, nil
		}
		if err := h.feed(r, k, val); err != nil {
			return false, err
		}
		n++
		size += len(val)
	}
	return false, nil
}

// feed adds one record, unless it only waits to be deleted.
func (h *hasher) feed(r revision, k, enc []byte) error {
	h.last = r
	if r.main > h.at || r.tomb && r.main == h.v.compactRev {
		return nil
	}
	if r.main <= h.v.compactRev {
		var rec record
		if !rec.decode(enc) {
			return ErrCorrupt
		}
		e := h.v.root.get(rec.key)
		if e == nil {
			return nil
		}
		if kept, ok := e.at(h.keepAt); !ok || kept.main != r.main || kept.sub != r.sub {
			return nil
		}
	}
	h.sum.Write(k)
	h.sum.Write(enc)
	return nil
}
