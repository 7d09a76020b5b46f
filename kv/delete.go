package kv

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// DeleteRange performs r. Nothing to delete leaves the revision as it is.
func (b *Batch) DeleteRange(r *pb.DeleteRangeRequest, a Answer) (*pb.DeleteRangeResponse, error) {
	b.begin()
	return b.deleteOp(r, a)
}

// deleteOp performs a deletion of the open request.
func (b *Batch) deleteOp(r *pb.DeleteRangeRequest, a Answer) (*pb.DeleteRangeResponse, error) {
	sp := spanOf(r.Key, r.RangeEnd)
	b.st.opts.Counts.Deletes.Add(1)
	if a == None {
		b.deleteSpan(sp)
		return nil, nil
	}
	resp := &pb.DeleteRangeResponse{Header: &pb.ResponseHeader{}}
	if r.PrevKv {
		if err := b.prevsOf(sp, resp, a); err != nil {
			return nil, err
		}
	}
	resp.Deleted = int64(b.deleteSpan(sp))
	resp.Header.Revision = b.rev
	return resp, nil
}

// prevsOf gives resp the records of sp, or owes them.
func (b *Batch) prevsOf(sp span, resp *pb.DeleteRangeResponse, a Answer) error {
	hits, _, err := b.collect(sp, b.rev, 0)
	if err != nil {
		return err
	}
	if a == Lazy && len(hits) > 0 && !b.quickly(hits) {
		b.owe(owedPart{at: b.rev, hits: hits, reply: func(_ *pb.RangeResponse, kvs []*mvccpb.KeyValue) { resp.PrevKvs = kvs }})
		return nil
	}
	resp.PrevKvs, err = b.loadAll(hits, b.rev, true)
	for _, kv := range resp.PrevKvs {
		b.charge(kv)
	}
	return err
}

// deleteSpan writes a deletion of each living key of sp, and returns how many
// there were.
func (b *Batch) deleteSpan(sp span) (n int) {
	g := graves{b: b, detach: b.leases.live > 0}
	if sp.single {
		if e := b.root.get(sp.lo); e == nil || e.dead() {
			return 0
		}
		g.left = 1
		b.tree.upsert(sp.lo, g.dig)
		n = 1
	} else {
		if n = b.count(sp, b.rev); n == 0 {
			return 0
		}
		g.left = n
		b.ch.recs = slices.Grow(b.ch.recs, n)
		b.tree.bury(sp.lo, sp.hi, g.dig)
	}
	b.root = b.tree.root
	if len(g.attached) > 0 {
		slices.SortFunc(g.attached, bytes.Compare) // by lease, and within one by key as they come
		b.leaseTree.remove(g.attached...)
		b.leases = b.leaseTree.root
	}
	return n
}

// graveSlab is how many deletions of one request are allocated together at most:
// enough to make allocating cheap, and few enough that the last one to be
// forgotten keeps little in memory.
const graveSlab = 32

// graves makes the entries and records of the deletions of one request.
type graves struct {
	b        *Batch
	left     int      // deletions to come
	room     []uint64 // for entries
	detach   bool     // the keys may be attached to leases
	attached [][]byte // what is to be taken out of the tree of leases, not in order
}

// dig writes the deletion of a living entry's key.
func (g *graves) dig(old *entry) *entry {
	b := g.b
	if g.detach {
		if id := leaseIn(old); id != 0 {
			if k := attachKey(id, old.key()); b.leases.get(k) != nil {
				g.attached = append(g.attached, k)
			}
		}
	}
	rev := b.next()
	rev.tomb = true
	rec := record{key: old.key()} // a deletion's record has the key alone
	t := succeed(old, rev, &rec, g.allocate)
	b.record(rev, t.enc())
	b.st.inline -= old.inlineSize()
	g.left--
	return t
}

// graveWords is what an entry takes at most, in words, to be allocated together
// with others, which may be as large.
const graveWords = 64

// allocate takes the memory of an entry from that of many.
func (g *graves) allocate(words int) []uint64 {
	if words > graveWords {
		return allocateOne(words)
	}
	if len(g.room) < words {
		g.room = make([]uint64, words*min(g.left, graveSlab))
	}
	room := g.room[:words:words]
	g.room = g.room[words:]
	return room
}
