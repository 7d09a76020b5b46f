package kv

// intervals finds the ranges that hold a key: a treap ordered by lower, then
// upper end, in which each node knows the highest end below it.
type intervals struct {
	root *interval
	seed uint64
}

// An interval is one range and the watches of it.
type interval struct {
	lo, hi      string // hi "" is no end
	max         string // highest hi of the subtree
	prio        uint64
	left, right *interval
	first       *watch
}

// endBefore orders upper ends, of which "" is the last.
func endBefore(a, b string) bool { return a != "" && (b == "" || a < b) }

func (n *interval) before(lo, hi string) bool {
	return n.lo < lo || n.lo == lo && endBefore(n.hi, hi)
}

func (n *interval) update() {
	n.max = n.hi
	for _, kid := range []*interval{n.left, n.right} {
		if kid != nil && endBefore(n.max, kid.max) {
			n.max = kid.max
		}
	}
}

// find returns the node of a range, or nil.
func (t *intervals) find(lo, hi string) *interval {
	n := t.root
	for n != nil && (n.lo != lo || n.hi != hi) {
		if n.before(lo, hi) {
			n = n.right
		} else {
			n = n.left
		}
	}
	return n
}

// add returns the node of a range, made if there was none.
func (t *intervals) add(lo, hi string) *interval {
	if n := t.find(lo, hi); n != nil {
		return n
	}
	// xorshift: the tree needs different numbers, not unforeseeable ones.
	t.seed = t.seed | 1
	t.seed ^= t.seed << 13
	t.seed ^= t.seed >> 7
	t.seed ^= t.seed << 17
	n := &interval{lo: lo, hi: hi, max: hi, prio: t.seed}
	a, b := split(t.root, lo, hi)
	t.root = merge(merge(a, n), b)
	return n
}

// remove takes the node of a range out.
func (t *intervals) remove(lo, hi string) { t.root = without(t.root, lo, hi) }

func without(n *interval, lo, hi string) *interval {
	switch {
	case n == nil:
		return nil
	case n.lo == lo && n.hi == hi:
		return merge(n.left, n.right)
	case n.before(lo, hi):
		n.right = without(n.right, lo, hi)
	default:
		n.left = without(n.left, lo, hi)
	}
	n.update()
	return n
}

// split parts the nodes before a range from the others.
func split(n *interval, lo, hi string) (a, b *interval) {
	if n == nil {
		return nil, nil
	}
	if n.before(lo, hi) {
		n.right, b = split(n.right, lo, hi)
		n.update()
		return n, b
	}
	a, n.left = split(n.left, lo, hi)
	n.update()
	return a, n
}

func merge(a, b *interval) *interval {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.prio > b.prio:
		a.right = merge(a.right, b)
		a.update()
		return a
	}
	b.left = merge(a, b.left)
	b.update()
	return b
}

// stab calls fn for each range that holds key.
func (n *interval) stab(key []byte, fn func(*interval)) {
	for n != nil && (n.max == "" || string(key) < n.max) {
		n.left.stab(key, fn)
		if string(key) < n.lo {
			return
		}
		if n.hi == "" || string(key) < n.hi {
			fn(n)
		}
		n = n.right
	}
}
