package kv

import (
	"sort"
	"unsafe"
)

// An entry is what the index knows of one key: its newest record and the
// revisions of the older ones. Entries are immutable once they are in a tree, but
// for those of leases (see leaseEntry).
//
// It is the head of one piece of memory without pointers, in which a few older
// revisions and the record's encoding follow: with a million keys, what the
// garbage collector does is to visit entries, and this spares it looking into
// them and at twice as many pieces. An entry with more older revisions is the
// head of a longEntry.
type entry struct {
	main  int64
	bits  uint32 // sub, bitTomb, bitWhole
	shape uint32 // bytes of the encoding << shapeShift | older revisions, or isLong
}

const (
	shapeShift = 4
	isLong     = 1<<shapeShift - 1
	// maxInlineRevs is how many older revisions an entry has room for itself;
	// they are copied with each put of the key.
	maxInlineRevs = 7
	maxInlineEnc  = 1<<(32-shapeShift) - 1

	entrySize = int(unsafe.Sizeof(entry{}))
	revSize   = int(unsafe.Sizeof(oldRev{}))
	wordSize  = 8
)

// A longEntry is an entry of a key with many older revisions, the first nhist of
// hist.
type longEntry struct {
	entry
	nhist int
	hist  *history
	enc   []byte
}

// A history is an array of older revisions in ascending order, shared by the
// versions of an entry: the writer fills the next free slot, which no older
// version looks at. The slice itself never changes; a full one is replaced.
type history struct {
	revs []oldRev // len is the capacity
}

// fitsInline reports whether an entry with so many older revisions and bytes of
// encoding is in one piece.
func fitsInline(older, size int) bool { return older <= maxInlineRevs && size <= maxInlineEnc }

// entryWords is how much memory such an entry takes, in words.
func entryWords(older, size int) int {
	return (entrySize + older*revSize + size + wordSize - 1) / wordSize
}

// placeEntry makes room's memory, which is that much and zero, an entry. The
// caller fills in everything else.
func placeEntry(room []uint64, older, size int) *entry {
	e := (*entry)(unsafe.Pointer(unsafe.SliceData(room)))
	e.shape = uint32(size)<<shapeShift | uint32(older)
	return e
}

// newEntry returns the entry of a key's first record.
func newEntry(rev revision, rec *record) *entry { return succeed(nil, rev, rec, allocateOne) }

func newLong(hist *history, nhist int, enc []byte) *entry {
	l := &longEntry{hist: hist, nhist: nhist, enc: enc}
	l.shape = isLong
	return &l.entry
}

// long returns the longEntry that e is the head of, or nil.
func (e *entry) long() *longEntry {
	if e.shape != isLong {
		return nil
	}
	return (*longEntry)(unsafe.Pointer(e))
}

// enc is the newest record's encoding: complete with bitWhole, else without the
// value, which is then read from the changes or the disk.
func (e *entry) enc() []byte {
	if l := e.long(); l != nil {
		return l.enc
	}
	size := e.shape >> shapeShift
	if size == 0 {
		return nil // rather than a pointer behind the end, into other memory
	}
	at := entrySize + int(e.shape&isLong)*revSize
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(e), at)), size)
}

// old returns the older revisions, oldest first.
func (e *entry) old() []oldRev {
	if l := e.long(); l != nil {
		return l.hist.revs[:l.nhist]
	}
	n := e.shape & isLong
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*oldRev)(unsafe.Add(unsafe.Pointer(e), entrySize)), n)
}

func (e *entry) key() []byte { return encodedKey(e.enc()) }
func (e *entry) dead() bool  { return e.bits&bitTomb != 0 }
func (e *entry) whole() bool { return e.bits&bitWhole != 0 }

func (e *entry) rev() revision {
	return revision{main: e.main, sub: e.bits & maxSub, tomb: e.dead()}
}

func (e *entry) setRev(r revision) {
	e.main, e.bits = r.main, r.sub
	if r.tomb {
		e.bits |= bitTomb
	}
}

// inlineSize is what the entry takes of the budget for values in memory.
func (e *entry) inlineSize() int64 {
	if e == nil || !e.whole() {
		return 0
	}
	return int64(len(e.enc()))
}

// at returns the record visible at revision rev; found is false if there is
// none, or a deletion.
func (e *entry) at(rev int64) (r revision, found bool) {
	if e.main <= rev {
		return e.rev(), !e.dead()
	}
	old := e.old()
	i := sort.Search(len(old), func(i int) bool { return old[i].main() > rev })
	if i == 0 {
		return revision{}, false
	}
	r = old[i-1].unpack()
	return r, !r.tomb
}

// allocate is where the memory of a new entry comes from: so many words of zeros.
type allocate func(words int) []uint64

func allocateOne(words int) []uint64 { return make([]uint64, words) }

// succeed returns the entry of a record of revision rev that follows prev, which
// may be nil: its older revisions are those of prev and prev's own.
func succeed(prev *entry, rev revision, rec *record, alloc allocate) *entry {
	older, size := 0, rec.size()
	if prev != nil {
		older = len(prev.old()) + 1
	}
	var e *entry
	if fitsInline(older, size) {
		e = placeEntry(alloc(entryWords(older, size)), older, size)
	} else {
		e = newLong(prev.longHistory(), older, make([]byte, size))
	}
	e.setRev(rev)
	if prev != nil {
		revs := e.old()
		if e.shape != isLong {
			copy(revs, prev.old())
		}
		revs[older-1] = packRev(prev.rev())
	}
	rec.appendTo(e.enc()[:0])
	return e
}

// longHistory returns a history that begins with e's older revisions and has room
// for one more: e's own where that is possible. e may be nil.
func (e *entry) longHistory() *history {
	if e == nil {
		return &history{}
	}
	old := e.old()
	if l := e.long(); l != nil && len(old) < len(l.hist.revs) {
		return l.hist
	}
	h := &history{revs: make([]oldRev, 2*len(old)+1)}
	copy(h.revs, old)
	return h
}

// without returns a copy of e that has lost its n oldest revisions.
func (e *entry) without(n int) *entry {
	old := e.old()[n:]
	if l := e.long(); l != nil && len(old) > maxInlineRevs && len(old) >= len(l.hist.revs)/2 {
		c := newLong(&history{revs: l.hist.revs[n:]}, len(old), l.enc)
		c.main, c.bits = e.main, e.bits
		return c
	}
	// Copied, so that the array's greater part is not kept for nothing.
	return e.withOld(old)
}

// withOld returns a copy of e with these older revisions, which it copies.
func (e *entry) withOld(old []oldRev) *entry {
	var c *entry
	enc := e.enc()
	if fitsInline(len(old), len(enc)) {
		c = placeEntry(allocateOne(entryWords(len(old), len(enc))), len(old), len(enc))
		copy(c.old(), old)
		copy(c.enc(), enc)
	} else {
		c = newLong(&history{revs: append([]oldRev(nil), old...)}, len(old), enc)
	}
	c.main, c.bits = e.main, e.bits
	return c
}
