package kv

import (
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Applying keeps everybody waiting, so a batch that answers Lazy reads at once
// only what is short and in memory: quickKeys keys, or fewer with long values.
// Everything else is owed, and read from a state as it was at that point of the
// request, which the copy-on-write index gives for nothing.
const (
	quickKeys = 4096
	// quickBytes is how much of a record counts as one key more.
	quickBytes = 256
)

// Owed is what the answer to one request lacks. Pay adds it, from any goroutine,
// once the batch is frozen. Until Pay or Drop compaction leaves alone what is
// still to be read, so that Drop has to follow. A nil *Owed owes nothing.
type Owed struct {
	st    *Store
	parts []owedPart
}

// An owedPart is an answer to a range, or records that were replaced.
type owedPart struct {
	state state
	at    int64            // revision that is read
	r     *pb.RangeRequest // nil: hits
	hits  []hit
	reply func(*pb.RangeResponse, []*mvccpb.KeyValue)
}

// Pay completes the answer, within a bound that may be nil. It may be called again
// where there was no room, or that was only to be measured. Errors: ErrClosed,
// ErrCorrupt, ErrNoRoom, ErrTooLong.
func (o *Owed) Pay(room *Room) error {
	if o == nil {
		return nil
	}
	for i := range o.parts {
		p := &o.parts[i]
		if p.r != nil {
			resp, err := p.state.within(room).answerRange(p.r)
			if err != nil {
				return err
			}
			p.reply(resp, nil)
			continue
		}
		kvs, err := p.state.within(room).loadAll(p.hits, p.at, true)
		if err != nil {
			return err
		}
		if room == nil || !room.Measure {
			p.reply(nil, kvs)
		}
	}
	return nil
}

// Drop ends it. It may be called again.
func (o *Owed) Drop() {
	if o != nil {
		o.st.holds.release(o)
	}
}

// Owed returns what the answer to the request before lacks, nil if nothing. It
// has to be paid or dropped.
func (b *Batch) Owed() *Owed {
	o := b.owed
	b.owed = nil
	return o
}

// owe adds a part to what the open request owes.
func (b *Batch) owe(p owedPart) {
	p.state = b.state
	if b.kept != b.root { // otherwise nothing was written since
		b.tree.edit = b.st.nextEdit() // what exists now is copied, not changed
		b.kept = b.root
	}
	if b.owed == nil {
		b.owed = &Owed{st: b.st}
	}
	b.owed.parts = append(b.owed.parts, p)
	// What the request replaces is there up to the revision before it.
	b.st.holds.hold(b.owed, min(p.at, b.begun))
}

// forgive forgets what a request owes that failed.
func (b *Batch) forgive() { b.Owed().Drop() }

// charge counts a record that was read at once.
func (b *Batch) charge(kv *mvccpb.KeyValue) {
	if b.quick--; kv != nil {
		b.quick -= (len(kv.Key) + len(kv.Value)) / quickBytes
	}
}

// quickly reports whether the open request may read hits at once.
func (b *Batch) quickly(hits []hit) bool {
	if len(hits) > b.quick {
		return false
	}
	for _, h := range hits {
		if len(hits) > 1 && !(h.current() && h.e.whole()) {
			return false
		}
	}
	return true
}

// rangeOp answers a range of a transaction.
func (b *Batch) rangeOp(r *pb.RangeRequest, a Answer) (*pb.ResponseOp, error) {
	out := &pb.ResponseOp_ResponseRange{}
	op := &pb.ResponseOp{Response: out}
	if a == Lazy {
		at, err := b.readRev(r.Revision)
		if err != nil {
			return nil, err
		}
		if !b.quickRange(r, at) {
			b.owe(owedPart{at: at, r: r, reply: func(resp *pb.RangeResponse, _ []*mvccpb.KeyValue) { out.ResponseRange = resp }})
			return op, nil
		}
	}
	resp, err := b.answerRange(r)
	if err != nil {
		return nil, err
	}
	for _, kv := range resp.Kvs {
		b.charge(kv)
	}
	out.ResponseRange = resp
	return op, nil
}

// quickRange reports whether a range can be answered at once.
func (b *Batch) quickRange(r *pb.RangeRequest, at int64) bool {
	sp := spanOf(r.Key, r.RangeEnd)
	switch {
	case b.quick <= 0:
		return false
	case sp.single:
		return true
	case at < b.rev: // each key has to be looked at
		return false
	case r.CountOnly:
		b.quick--
		return true
	}
	n := b.count(sp, at)
	if limit := rangeLimit(r); limit > 0 {
		n = min(n, limit)
	}
	if n > b.quick {
		return false
	}
	hits, _ := b.firstHits(sp, at, n)
	return b.quickly(hits)
}

// holds are the revisions that owed answers read.
type holds struct {
	mu sync.Mutex
	at map[*Owed]int64 // oldest one of each
}

func (h *holds) hold(o *Owed, at int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at == nil {
		h.at = make(map[*Owed]int64)
	}
	if old, held := h.at[o]; !held || at < old {
		h.at[o] = at
	}
}

func (h *holds) release(o *Owed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.at, o)
}

// below reports whether something older than rev is still to be read. What is
// owed later reads nothing so old, so that it cannot last.
func (h *holds) below(rev int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, at := range h.at {
		if at < rev {
			return true
		}
	}
	return false
}
