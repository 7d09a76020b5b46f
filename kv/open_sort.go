package kv

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// sortChunk is how many records are sorted at a time while loading. Keys in
// order go to the same part of the index one after the other; with four million
// keys that saves a third of the time. A chunk takes 28 MiB.
const sortChunk = 512 << 10

// minRecord is less than any record takes of the file, in bytes.
const minRecord = 40

// An unsorted is a record read from the file, whose memory it shares, unless it
// had to be encoded anew: enc begins with the key. 40 bytes.
type unsorted struct {
	enc  []byte
	main int64
	bits uint32 // sub, bitTomb
}

func (u *unsorted) key() []byte { return encodedKey(u.enc) }

func (u *unsorted) rev() revision {
	return revision{main: u.main, sub: u.bits & maxSub, tomb: u.bits&bitTomb != 0}
}

// A sortKey stands for a record while records are sorted.
type sortKey struct {
	part uint64 // of the key: see keyPart
	i    int32  // of the record
}

// partLen is how many bytes of a key are compared at once.
const partLen = 7

// keyPart returns the bytes of a key from depth on as a number that sorts as
// they do, and whether the key goes on after them. The lowest byte tells how many
// there are, so that a key that ends sorts before one that goes on with zeros.
func keyPart(key []byte, depth int) uint64 {
	rest := key[min(depth, len(key)):]
	if len(rest) > partLen {
		return binary.BigEndian.Uint64(rest)&^0xff | (partLen + 1)
	}
	var buf [8]byte
	copy(buf[:], rest)
	buf[7] = byte(len(rest))
	return binary.BigEndian.Uint64(buf[:])
}

func (k sortKey) ends() bool { return k.part&0xff <= partLen }

// sortByKey orders keys, which agree in their first depth bytes, by the keys of
// their records, roughly: what would come to lie in one leaf of the index anyway
// stays as it is. Equal ones stay in the order of their positions.
func sortByKey(keys []sortKey, recs []unsorted, depth int) {
	depth = commonPrefix(keys, recs, depth)
	for i := range keys {
		keys[i].part = keyPart(recs[keys[i].i].key(), depth)
	}
	slices.SortFunc(keys, func(a, b sortKey) int {
		if a.part != b.part {
			return cmp.Compare(a.part, b.part)
		}
		return cmp.Compare(a.i, b.i)
	})
	for len(keys) > leafMax {
		n := 1
		for n < len(keys) && keys[n].part == keys[0].part {
			n++
		}
		if n > leafMax && !keys[0].ends() {
			sortByKey(keys[:n], recs, depth+partLen)
		}
		keys = keys[n:]
	}
}

// commonPrefix returns in how many bytes keys agree that agree in depth bytes.
func commonPrefix(keys []sortKey, recs []unsorted, depth int) int {
	first := recs[keys[0].i].key()
	common := len(first)
	for _, k := range keys[1:] {
		key := recs[k.i].key()
		common = min(common, len(key))
		for i := depth; i < common; i++ {
			if key[i] != first[i] {
				common = i
			}
		}
		if common <= depth {
			return depth
		}
	}
	return common
}

// insert brings a chunk of records, newest first, into the index.
func (l *loader) insert(recs []unsorted) {
	if len(recs) == 0 {
		return
	}
	if l.keys == nil {
		l.keys = make([]sortKey, 0, len(recs))
	}
	l.keys = l.keys[:0]
	for i := range recs {
		l.keys = append(l.keys, sortKey{i: int32(i)})
	}
	sortByKey(l.keys, recs, 0)
	var at spot
	for _, k := range l.keys {
		r := &recs[k.i]
		key := r.key()
		if !at.holds(key) {
			l.tree.reach(key, &at)
			at.bound()
		}
		at.upsert(key, func(e *entry) *entry {
			if e == nil {
				return l.s.loadEntry(r)
			}
			return e.addOlder(r.rev())
		})
	}
}
