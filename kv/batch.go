package kv

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Answer says how much of a response is wanted. The state that follows and the
// error are the same for each.
type Answer uint8

const (
	// Full builds the response.
	Full Answer = iota
	// None returns a nil response: for members that apply a request which
	// another one has to answer.
	None
	// Lazy builds the response but for what takes long, which Batch.Owed has.
	Lazy
)

// A Batch performs requests one after the other on the newest state. Requests
// see those before them; other goroutines see nothing until Freeze. A batch is
// used by one goroutine.
type Batch struct {
	state          // of the batch so far; rev counts an open request's revision once it wrote
	tree      tree // root is state.root
	leaseTree tree // root is state.leases
	ch        *Changes
	begun     int64 // revision before the open request
	first     int   // index in ch.recs of the open request's first record
	txn       txn   // reused by the transactions of the batch

	quick int   // keys that may still be read at once, see Lazy
	owed  *Owed // by the answer to the last request
	kept  *node // newest root that something owed reads
	seen  int   // by Prefetch: what nobody has, the compiler would not read
}

// maxPresize bounds the records for which a batch has room from the start.
const maxPresize = 1024

// NewBatch opens a batch. There is one at a time, and each must be frozen.
func (s *Store) NewBatch() *Batch {
	if !s.writing.CompareAndSwap(false, true) {
		panic("kv: a batch was opened while another one is open")
	}
	b := &Batch{state: s.View().state, quick: quickKeys}
	b.tree = tree{root: b.root, edit: s.nextEdit()}
	b.leaseTree = tree{root: b.leases, edit: b.tree.edit}
	b.ch = &Changes{st: s, recs: make([]change, 0, s.recs), schedule: none, finished: none, clock: none}
	b.own = b.ch
	return b
}

// Rev returns the revision after the requests so far.
func (b *Batch) Rev() int64 { return b.rev }

// Freeze ends the batch: it does the next part of a running compaction, unless that
// is done apart, and publishes the new view. The changes have to reach the file in
// the order of their batches; empty ones need not.
func (b *Batch) Freeze() (*View, *Changes) {
	if !b.st.opts.PruneApart {
		b.pruneStep()
	}
	return b.freeze()
}

func (b *Batch) freeze() (*View, *Changes) {
	s := b.st
	s.recs = min(len(b.ch.recs), maxPresize)
	b.ch.last = b.rev
	v := &View{b.state}
	v.own = nil
	// Readers of the new view must find its records: overlay first.
	if !b.ch.Empty() {
		s.enqueue(b.ch)
	}
	s.view.Store(v)
	b.tree.edit, b.leaseTree.edit = 0, 0 // the nodes belong to the view now
	s.writing.Store(false)
	return v, b.ch
}

// begin and end enclose a request that may write: its records get one revision.
func (b *Batch) begin() {
	b.begun, b.first = b.rev, len(b.ch.recs)
}

// next returns the revision of the open request's next record.
func (b *Batch) next() revision {
	sub := len(b.ch.recs) - b.first
	if sub > maxSub {
		panic("kv: a request writes too many records")
	}
	b.rev = b.begun + 1
	return revision{main: b.rev, sub: uint32(sub)}
}

func (b *Batch) record(r revision, enc []byte) {
	b.ch.recs = append(b.ch.recs, change{r, enc})
	b.ch.bytes += len(enc)
}

// A putAnswer is a response in one piece of memory.
type putAnswer struct {
	resp   pb.PutResponse
	header pb.ResponseHeader
}

// Put performs r. Errors: ErrLeaseNotFound, ErrKeyNotFound.
func (b *Batch) Put(r *pb.PutRequest, a Answer) (*pb.PutResponse, error) {
	if !b.leaseGranted(r.Lease) {
		return nil, ErrLeaseNotFound
	}
	b.begin()
	return b.putOp(r, a)
}

// putOp performs a put of the open request.
func (b *Batch) putOp(r *pb.PutRequest, a Answer) (*pb.PutResponse, error) {
	value, lease := r.Value, r.Lease
	b.st.opts.Counts.put(r.Key, value)
	var prev *mvccpb.KeyValue
	keep := r.IgnoreValue || r.IgnoreLease
	owes := r.PrevKv && a == Lazy && b.quick <= 0 && !keep
	if keep || r.PrevKv && a != None && !owes {
		var err error
		if prev, err = b.get(r.Key); err != nil {
			return nil, err
		}
		if keep && prev == nil {
			return nil, ErrKeyNotFound
		}
		b.charge(prev)
	}
	var replaced []hit
	if owes {
		replaced, _ = b.firstHits(spanOf(r.Key, nil), b.rev, 1)
	}
	if r.IgnoreValue {
		value = prev.Value
	}
	if r.IgnoreLease {
		lease = prev.Lease
	}
	b.put(r.Key, value, lease)
	if a == None {
		return nil, nil
	}
	p := &putAnswer{}
	p.resp.Header = &p.header
	p.header.Revision = b.rev
	if r.PrevKv {
		p.resp.PrevKv = prev
	}
	if len(replaced) > 0 {
		b.owe(owedPart{at: b.begun, hits: replaced, reply: func(_ *pb.RangeResponse, kvs []*mvccpb.KeyValue) { p.resp.PrevKv = kvs[0] }})
	}
	return &p.resp, nil
}

// put writes key.
func (b *Batch) put(key, value []byte, lease int64) {
	rev := b.next()
	s := b.st
	let := int64(0)
	b.tree.upsert(key, func(old *entry) *entry {
		rec := record{key: key, value: value, create: rev.main, mod: rev.main, version: 1, lease: lease}
		if old != nil && !old.dead() {
			var was record
			if !was.decode(old.enc()) {
				panic("kv: an entry of the index cannot be decoded")
			}
			rec.create, rec.version = was.create, was.version+1
			let = was.lease
		}
		s.inline -= old.inlineSize()
		e := s.entryOf(rev, &rec, old)
		if e.whole() {
			b.record(rev, e.enc())
		} else {
			b.record(rev, rec.encode())
		}
		return e
	})
	b.root = b.tree.root
	b.relet(key, let, lease)
}

// entryOf makes the entry of a record that is not a deletion and follows prev,
// which may be nil, and accounts for it if it is kept whole.
func (s *Store) entryOf(rev revision, rec *record, prev *entry) *entry {
	kept, size := *rec, int64(rec.size())
	whole := len(rec.value) == 0 || len(rec.value) <= s.opts.MaxInline && s.inline+size <= s.opts.InlineBudget
	if whole {
		s.inline += size
	} else {
		kept.value = nil
	}
	e := succeed(prev, rev, &kept, allocateOne)
	if whole {
		e.bits |= bitWhole
	}
	return e
}

// Compact makes the revisions before r.Revision unreadable. Errors:
// ErrCompacted, ErrFutureRevision.
//
// It takes effect at once; what it makes unreachable is deleted with this
// batch and the following ones (Store.Pruning). A deletion written at
// r.Revision itself stays, for watchers that start there.
func (b *Batch) Compact(r *pb.CompactionRequest, a Answer) (*pb.CompactionResponse, error) {
	switch {
	case r.Revision <= b.compactRev:
		return nil, ErrCompacted
	case r.Revision > b.rev:
		return nil, ErrFutureRevision
	}
	b.compactRev = r.Revision
	b.ch.schedule = r.Revision
	b.st.prune.start(r.Revision)
	if a == None {
		return nil, nil
	}
	return &pb.CompactionResponse{Header: &pb.ResponseHeader{Revision: b.rev}}, nil
}
