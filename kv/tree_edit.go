package kv

import (
	"bytes"
	"sort"
)

// A tree is the writer's handle on the index. Nodes that carry its edit number
// belong to it alone.
type tree struct {
	root *node
	edit uint64
}

// own returns n if the writer may change it, else a copy that it may.
func (t *tree) own(n *node) *node {
	if n.edit == t.edit {
		return n
	}
	if n.leaf() {
		c := newLeaf(t.edit)
		c.live = n.live
		c.entries = append(c.entries, n.entries...)
		c.tags = append(c.tags, n.tags...)
		return c
	}
	c := newInner(t.edit)
	c.live = n.live
	c.kids = append(c.kids, n.kids...)
	c.seps = n.seps
	return c
}

// A spot is where a key belongs: a leaf and the way to it. It holds until the
// tree changes elsewhere.
type spot struct {
	leaf  *node
	path  [maxDepth]*node
	kids  [maxDepth]int // where the way goes on from path's nodes
	depth int
	// The keys that belong there as well, once bound was called.
	lo, hi string // keys >= lo and < hi
	open   bool   // hi is no bound
}

// bound looks up which keys belong at s, so that holds can be asked.
func (s *spot) bound() {
	s.lo, s.hi, s.open = "", "", true
	for d, n := range s.path[:s.depth] {
		i, keys := s.kids[d], n.seps.keys
		if i > 0 {
			s.lo = keys[i-1]
		}
		if i < len(keys) {
			s.hi, s.open = keys[i], false
		}
	}
}

// holds reports whether key can be put at s too.
func (s *spot) holds(key []byte) bool {
	return s.leaf != nil && !s.leaf.full() && string(key) >= s.lo && (s.open || string(key) < s.hi)
}

// upsert replaces the entry of key by what next makes of it; old is nil if
// there is none.
func (t *tree) upsert(key []byte, next func(old *entry) *entry) {
	var s spot
	t.reach(key, &s)
	s.upsert(key, next)
}

// reach finds the spot of key, makes the way to it the writer's own, and makes
// sure that there is room for one more.
func (t *tree) reach(key []byte, s *spot) {
	t.root = t.own(t.root)
	if t.root.full() {
		grown := newInner(t.edit)
		grown.live = t.root.live
		grown.kids = append(grown.kids, t.root)
		t.root = grown
		t.splitKid(grown, 0, key)
	}
	s.depth = 0
	n := t.root
	for !n.leaf() {
		i := n.kidFor(key)
		kid := t.own(n.kids[i])
		n.kids[i] = kid
		if kid.full() {
			t.splitKid(n, i, key)
			i = n.kidFor(key)
			kid = n.kids[i]
		}
		s.path[s.depth], s.kids[s.depth] = n, i
		s.depth++
		n = kid
	}
	s.leaf = n
}

// upsert is tree.upsert of a key that belongs at s, where there is room.
func (s *spot) upsert(key []byte, next func(old *entry) *entry) {
	var delta int
	n, tag := s.leaf, tagOf(key)
	if i := n.find(key, tag); i >= 0 {
		old := n.entries[i]
		e := next(old)
		n.entries[i] = e
		delta = alive(e) - alive(old)
	} else {
		i := n.slot(key)
		e := next(nil)
		n.entries = insertAt(n.entries, i, e)
		n.tags = insertAt(n.tags, i, tag)
		delta = alive(e)
	}
	if delta == 0 {
		return
	}
	n.live += delta
	for _, p := range s.path[:s.depth] {
		p.live += delta
	}
}

func alive(e *entry) int {
	if e.dead() {
		return 0
	}
	return 1
}

// splitKid divides the full, owned child i of the owned node n in two, to make
// room for key. A leaf that key would extend is left full, so that keys
// written in ascending order fill their leaves.
func (t *tree) splitKid(n *node, i int, key []byte) {
	left := n.kids[i]
	var right *node
	var sep string
	if left.leaf() {
		right = newLeaf(t.edit)
		at := leafMax / 2
		if bytes.Compare(key, left.entries[leafMax-1].key()) > 0 {
			at = leafMax
			sep = string(key)
		} else {
			sep = string(left.entries[at].key())
		}
		right.entries = append(right.entries, left.entries[at:]...)
		right.tags = append(right.tags, left.tags[at:]...)
		left.entries = truncate(left.entries, at)
		left.tags = left.tags[:at]
	} else {
		right = newInner(t.edit)
		at := innerMax / 2
		sep = left.seps.keys[at-1]
		right.kids = append(right.kids, left.kids[at:]...)
		left.kids = truncate(left.kids, at)
		left.seps, right.seps = left.seps.divide(at - 1)
	}
	left.recount()
	right.recount()
	n.kids = insertAt(n.kids, i+1, right)
	n.seps = n.seps.with(i, sep)
}

// remove takes the entries of keys, which are in order, out of the tree. They
// must exist.
func (t *tree) remove(keys ...[]byte) {
	t.root = t.own(t.root)
	t.removeFrom(t.root, keys)
	for !t.root.leaf() && len(t.root.kids) == 1 {
		t.root = t.root.kids[0]
	}
}

// removeFrom goes to each node once, however many keys are beneath it.
func (t *tree) removeFrom(n *node, keys [][]byte) (delta int) {
	for len(keys) > 0 {
		if n.leaf() {
			delta += n.removeEntry(keys[0])
			keys = keys[1:]
			continue
		}
		i := n.kidFor(keys[0])
		part := len(keys)
		if i < len(n.seps.keys) {
			part = sort.Search(len(keys), func(j int) bool { return string(keys[j]) >= n.seps.keys[i] })
		}
		kid := t.own(n.kids[i])
		n.kids[i] = kid
		delta += t.removeFrom(kid, keys[:part])
		t.shrinkKid(n, i)
		keys = keys[part:]
	}
	n.live += delta
	return delta
}

// removeEntry takes an entry out of a leaf, whose count of living ones it leaves
// to the caller.
func (n *node) removeEntry(key []byte) (delta int) {
	i := n.find(key, tagOf(key))
	if i < 0 {
		panic("kv: removed key is not in the index")
	}
	delta = -alive(n.entries[i])
	n.entries = removeAt(n.entries, i)
	n.tags = removeAt(n.tags, i)
	return delta
}

// bury replaces the living entries with lo <= key < hi (nil: no end) by what
// tomb makes of them, which are deletions. It goes to each node once.
func (t *tree) bury(lo, hi []byte, tomb func(old *entry) *entry) {
	t.root = t.own(t.root)
	t.buryIn(t.root, lo, hi, tomb)
}

func (t *tree) buryIn(n *node, lo, hi []byte, tomb func(old *entry) *entry) (buried int) {
	if n.leaf() {
		for i := n.slot(lo); i < len(n.entries); i++ {
			e := n.entries[i]
			if hi != nil && bytes.Compare(e.key(), hi) >= 0 {
				break
			}
			if !e.dead() {
				n.entries[i] = tomb(e)
				buried++
			}
		}
		n.live -= buried
		return buried
	}
	for i := n.kidFor(lo); i < len(n.kids); i++ {
		if i > 0 && hi != nil && n.seps.keys[i-1] >= string(hi) {
			break
		}
		if n.kids[i].live > 0 {
			n.kids[i] = t.own(n.kids[i])
			buried += t.buryIn(n.kids[i], lo, hi, tomb)
		}
	}
	n.live -= buried
	return buried
}

// shrinkKid drops child i of the owned node n if nothing is left beneath it,
// and joins it with a neighbour if both together fill at most half a node.
func (t *tree) shrinkKid(n *node, i int) {
	kid := n.kids[i]
	limit := innerMax
	if kid.leaf() {
		limit = leafMax
	}
	if kid.size() >= limit/4 || len(n.kids) == 1 {
		return
	}
	if kid.barren() {
		n.kids = removeAt(n.kids, i)
		n.seps = n.seps.without(max(0, i-1))
		return
	}
	if i == len(n.kids)-1 {
		i--
	}
	left, right := n.kids[i], n.kids[i+1]
	if left.size()+right.size() > limit/2 {
		return
	}
	left = t.own(left)
	if left.leaf() {
		left.entries = append(left.entries, right.entries...)
		left.tags = append(left.tags, right.tags...)
	} else {
		left.seps = left.seps.join(n.seps.keys[i], right.seps)
		left.kids = append(left.kids, right.kids...)
	}
	left.live += right.live
	n.kids[i] = left
	n.kids = removeAt(n.kids, i+1)
	n.seps = n.seps.without(i)
}

// barren reports whether no entry is beneath n.
func (n *node) barren() bool {
	if n.leaf() {
		return len(n.entries) == 0
	}
	return len(n.kids) == 1 && n.kids[0].barren()
}
