package kv

// Pruning takes out of the index, and in the same batch out of the file, what
// a compaction made unreachable. It walks the keys in bounded steps, one per
// batch. The file's records that are due are exactly the index's, so nothing
// has to be searched on disk; and a walk broken off by a crash starts over at
// the next open, because the index is then built from all that is left.

// A pruning is the walk of the newest compaction.
type pruning struct {
	active bool
	target int64  // the compaction
	next   []byte // key at which the walk goes on
}

func (p *pruning) start(target int64) {
	*p = pruning{active: true, target: target}
}

// A pruned is what a step does to one key: without its oldest revisions, or,
// if gone, without the key.
type pruned struct {
	e    *entry
	old  int // oldest revisions of e.old() to drop
	gone bool
}

// pruneStep does the next part of the walk.
func (b *Batch) pruneStep() {
	p := &b.st.prune
	if !b.st.Pruning() {
		return
	}
	limit := b.st.opts.PruneStep
	var due []pruned
	visits, drops := 0, 0
	end := b.root.ascend(p.next, nil, func(e *entry) bool {
		if visits == limit || drops >= limit {
			p.next = e.key()
			return false
		}
		visits++
		d := unreachable(e, p.target)
		if d.old > limit-drops { // the next step takes the rest of this key
			d.old, d.gone = limit-drops, false
			due = append(due, d)
			p.next = e.key()
			return false
		}
		if d.old > 0 || d.gone {
			due = append(due, d)
		}
		drops += d.old
		if d.gone {
			drops++
		}
		return true
	})
	for _, d := range due {
		b.pruneKey(d)
	}
	if end {
		b.ch.finished = p.target
		*p = pruning{}
	}
}

// unreachable finds what of e no read at target or later sees: all revisions
// before the newest one at or before target, and that one too if it is a
// deletion before target.
func unreachable(e *entry, target int64) pruned {
	d := pruned{e: e}
	old := e.old()
	if e.main <= target {
		d.old = len(old)
		d.gone = e.dead() && e.main < target
		return d
	}
	for d.old < len(old) && old[d.old].main() <= target {
		d.old++
	}
	if d.old == 0 {
		return d
	}
	if r := old[d.old-1].unpack(); !r.tomb || r.main == target {
		d.old--
	}
	return d
}

func (b *Batch) pruneKey(d pruned) {
	for _, o := range d.e.old()[:d.old] {
		b.ch.drops = append(b.ch.drops, o.unpack())
	}
	if d.gone {
		b.ch.drops = append(b.ch.drops, d.e.rev())
		b.tree.remove(d.e.key())
	} else {
		b.tree.upsert(d.e.key(), func(e *entry) *entry { return e.without(d.old) })
	}
	b.root = b.tree.root
}
