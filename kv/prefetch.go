package kv

import "bytes"

// PrefetchGroup is how many keys Prefetch looks up at a time: about as many
// waits for memory as a processor has going at once.
const PrefetchGroup = 16

// Prefetch looks at all that puts of keys will look at. It changes nothing, but
// what it saw is in the processor's cache when they come. One put of a million
// keys waits for memory some ten times, each time knowing only then where to look
// next; lookups that go down the tree side by side wait for theirs together
// (Chen et al., "Improving Hash Join Performance through Prefetching", 2004).
func (b *Batch) Prefetch(keys [][]byte) {
	for len(keys) > 0 {
		n := min(PrefetchGroup, len(keys))
		b.lookAt(b.root, keys[:n])
		keys = keys[n:]
	}
}

// lookAt is Prefetch of a group of keys of a tree. Each loop only looks at what the
// one before it found: the processor goes on with the next key while it waits for
// this one's.
func (b *Batch) lookAt(root *node, keys [][]byte) {
	var nodes [PrefetchGroup]*node
	for i := range keys {
		nodes[i] = root
	}
	seen := 0
	for !nodes[0].leaf() { // all leaves are equally deep
		for i, key := range keys {
			nodes[i] = nodes[i].kids[nodes[i].kidFor(key)]
		}
		for i := range keys {
			seen += nodes[i].live
		}
		for i := range keys {
			seen += nodes[i].touch()
		}
	}
	var entries [PrefetchGroup]*entry
	for i, key := range keys {
		if at := bytes.IndexByte(nodes[i].tags, tagOf(key)); at >= 0 {
			entries[i] = nodes[i].entries[at]
		}
	}
	for i := range keys {
		if e := entries[i]; e != nil {
			seen += int(e.bits)
		}
	}
	for i := range keys {
		if e := entries[i]; e != nil {
			enc, old := e.enc(), e.old()
			if n := len(enc); n > 0 {
				seen += int(enc[0]) + int(enc[n-1])
			}
			if n := len(old); n > 0 {
				seen += int(old[n-1].lo)
			}
		}
	}
	b.seen += seen
}

// wordsPerLine is how many words a cache line has.
const wordsPerLine = 8

// touch reads a word of each cache line that a search or a copy of n needs.
func (n *node) touch() (seen int) {
	if n.leaf() {
		for i := 0; i < len(n.entries); i += wordsPerLine {
			if n.entries[i] != nil {
				seen++
			}
		}
		if len(n.tags) > 0 {
			seen += int(n.tags[0])
		}
		return seen
	}
	for i := 0; i < len(n.kids); i += wordsPerLine {
		if n.kids[i] != nil {
			seen++
		}
	}
	for i := 0; i < len(n.seps.heads); i += wordsPerLine {
		seen += int(n.seps.heads[i])
	}
	return seen
}
