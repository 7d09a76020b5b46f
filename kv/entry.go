package kv

import "sort"

// An entry is what the index knows of one key: its newest record and the
// revisions of the older ones. Entries are immutable once they are in a tree, but
// for those of leases (see leaseEntry); 48 bytes.
type entry struct {
	// enc is the newest record's encoding: complete with bitWhole, else
	// without the value, which is then read from the changes or the disk.
	enc   []byte
	hist  *history // nil: none
	main  int64
	bits  uint32 // sub, bitTomb, bitWhole
	nhist uint32 // older revisions, the first nhist of hist.revs
}

// A history is an array of older revisions in ascending order, shared by the
// versions of an entry: the writer fills the next free slot, which no older
// version looks at. The slice itself never changes; a full one is replaced.
type history struct {
	revs []oldRev // len is the capacity
}

// A firstHistory is a small history and its array in one piece of memory.
type firstHistory struct {
	history
	buf [2]oldRev
}

func newHistory() *history {
	h := &firstHistory{}
	h.revs = h.buf[:]
	return &h.history
}

func (e *entry) key() []byte { return encodedKey(e.enc) }
func (e *entry) dead() bool  { return e.bits&bitTomb != 0 }
func (e *entry) whole() bool { return e.bits&bitWhole != 0 }

func (e *entry) rev() revision {
	return revision{main: e.main, sub: e.bits & maxSub, tomb: e.dead()}
}

// inlineSize is what the entry takes of the budget for values in memory.
func (e *entry) inlineSize() int64 {
	if e == nil || !e.whole() {
		return 0
	}
	return int64(len(e.enc))
}

// old returns the older revisions, oldest first.
func (e *entry) old() []oldRev {
	if e.hist == nil {
		return nil
	}
	return e.hist.revs[:e.nhist]
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

// succeed gives e, an entry not yet in a tree, the history of prev and prev's
// own revision as its newest part. prev may be nil. e may bring room for a first
// history.
func (e *entry) succeed(prev *entry) {
	if prev == nil {
		return
	}
	h, n := prev.hist, int(prev.nhist)
	switch {
	case h == nil:
		if h = e.hist; h == nil {
			h = newHistory()
		}
	case n == len(h.revs):
		h = &history{revs: make([]oldRev, 2*n)}
		copy(h.revs, prev.hist.revs)
	}
	h.revs[n] = packRev(prev.rev())
	e.hist, e.nhist = h, uint32(n+1)
}

// without returns a copy of e that has lost its n oldest revisions.
func (e *entry) without(n int) *entry {
	c := *e
	c.nhist -= uint32(n)
	switch {
	case c.nhist == 0:
		c.hist = nil
	case int(c.nhist) < len(e.hist.revs)/2:
		// Copied, so that the array's greater part is not kept for nothing.
		c.hist = &history{revs: append([]oldRev(nil), e.old()[n:]...)}
	default:
		c.hist = &history{revs: e.hist.revs[n:]}
	}
	return &c
}
