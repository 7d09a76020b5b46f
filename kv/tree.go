package kv

import "bytes"

// Node capacities. They fill allocations of 512 and 480 bytes: a put copies 1 KiB
// of a million keys, which are 4 levels deep.
const (
	leafMax  = 46
	innerMax = 48
	// maxDepth is enough for innerMax/4 to the power 15 leaves.
	maxDepth = 16
)

// A node is part of a B+tree of entries ordered by key: a leaf with entries,
// or an inner node with kids. A node whose edit is the writer's may be changed
// in place; all others are shared with views and are copied first.
type node struct {
	edit    uint64
	live    int     // entries beneath that are not deletions
	kids    []*node // inner node; nil in a leaf
	seps    *separators
	entries []*entry // leaf
	tags    []byte   // leaf: tagOf each entry's key, to find it without looking at others
}

// leafNode and innerNode allocate a node together with its arrays.
type leafNode struct {
	node
	buf    [leafMax]*entry
	tagBuf [leafMax]byte
}

type innerNode struct {
	node
	kidBuf [innerMax]*node
}

func newLeaf(edit uint64) *node {
	l := &leafNode{}
	l.edit, l.entries, l.tags = edit, l.buf[:0], l.tagBuf[:0]
	return &l.node
}

func newInner(edit uint64) *node {
	in := &innerNode{}
	in.edit, in.kids, in.seps = edit, in.kidBuf[:0], noSeparators
	return &in.node
}

func (n *node) leaf() bool { return n.kids == nil }

func (n *node) full() bool {
	if n.leaf() {
		return len(n.entries) == leafMax
	}
	return len(n.kids) == innerMax
}

func (n *node) size() int {
	if n.leaf() {
		return len(n.entries)
	}
	return len(n.kids)
}

// kidFor returns the index of the child whose range holds key.
func (n *node) kidFor(key []byte) int { return n.seps.below(key) }

// tagOf mixes the end of a key, where the keys of one leaf differ most, to one
// byte.
func tagOf(key []byte) byte {
	h := uint32(len(key))
	for _, c := range key[max(0, len(key)-12):] {
		h = (h ^ uint32(c)) * 16777619 // the prime of FNV-1a
	}
	return byte(h>>24 ^ h>>8)
}

// find returns the index of key's entry in a leaf, or -1. A lookup by order
// would touch the memory of six entries, this one touches one.
func (n *node) find(key []byte, tag byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(n.tags[from:], tag)
		if i < 0 {
			return -1
		}
		if i += from; bytes.Equal(n.entries[i].key(), key) {
			return i
		}
		from = i + 1
	}
}

// slot returns the index of the first entry of a leaf whose key is >= key.
func (n *node) slot(key []byte) int {
	lo, hi := 0, len(n.entries)
	if hi > 0 && bytes.Compare(n.entries[hi-1].key(), key) < 0 {
		return hi // as with keys that come in order
	}
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if bytes.Compare(n.entries[mid].key(), key) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// get returns the entry of key, or nil.
func (n *node) get(key []byte) *entry {
	for !n.leaf() {
		n = n.kids[n.kidFor(key)]
	}
	if i := n.find(key, tagOf(key)); i >= 0 {
		return n.entries[i]
	}
	return nil
}

// ascend calls fn for the entries with lo <= key < hi in order, deletions
// included, until fn returns false. A nil hi means no end. It reports whether
// it came to the end.
func (n *node) ascend(lo, hi []byte, fn func(*entry) bool) bool {
	return n.walk(lo, hi, false, fn)
}

// walk is ascend; with living it passes over nodes beneath which all entries are
// deletions, but not over single ones.
func (n *node) walk(lo, hi []byte, living bool, fn func(*entry) bool) bool {
	if living && n.live == 0 {
		return true
	}
	if n.leaf() {
		i := n.slot(lo)
		for _, e := range n.entries[i:] {
			if hi != nil && bytes.Compare(e.key(), hi) >= 0 {
				return true
			}
			if !fn(e) {
				return false
			}
		}
		return true
	}
	for i := n.kidFor(lo); i < len(n.kids); i++ {
		if i > 0 && hi != nil && n.seps.keys[i-1] >= string(hi) {
			return true
		}
		if !n.kids[i].walk(lo, hi, living, fn) {
			return false
		}
	}
	return true
}

// rank returns how many living entries have a key < key.
func (n *node) rank(key []byte) int {
	count := 0
	for !n.leaf() {
		i := n.kidFor(key)
		for _, kid := range n.kids[:i] {
			count += kid.live
		}
		n = n.kids[i]
	}
	i := n.slot(key)
	for _, e := range n.entries[:i] {
		if !e.dead() {
			count++
		}
	}
	return count
}

// count returns how many living entries have lo <= key < hi (nil: no end).
func (n *node) count(lo, hi []byte) int {
	end := n.live
	if hi != nil {
		end = n.rank(hi)
	}
	return max(0, end-n.rank(lo))
}

// recount sets live from the node's content.
func (n *node) recount() {
	n.live = 0
	for _, e := range n.entries {
		if !e.dead() {
			n.live++
		}
	}
	for _, kid := range n.kids {
		n.live += kid.live
	}
}

// insertAt puts v at index i, moving what follows.
func insertAt[T any](s []T, i int, v T) []T {
	var zero T
	s = append(s, zero)
	copy(s[i+1:], s[i:])
	s[i] = v
	return s
}

// removeAt takes out index i and clears the slot that becomes free.
func removeAt[T any](s []T, i int) []T {
	var zero T
	copy(s[i:], s[i+1:])
	s[len(s)-1] = zero
	return s[:len(s)-1]
}

// truncate cuts s at n and clears the slots that become free.
func truncate[T any](s []T, n int) []T {
	clear(s[n:])
	return s[:n]
}
