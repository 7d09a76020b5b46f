package kv

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// readRev returns the revision at which a request for revision want is
// answered: the newest for 0 and less.
func (s *state) readRev(want int64) (int64, error) {
	switch {
	case want > s.rev:
		return 0, ErrFutureRevision
	case want <= 0:
		return s.rev, nil
	case want < s.compactRev:
		return 0, ErrCompacted
	}
	return want, nil
}

func (s *state) answerRange(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	at, err := s.readRev(r.Revision)
	if err != nil {
		return nil, err
	}
	sp := spanOf(r.Key, r.RangeEnd)
	if r.CountOnly {
		return &pb.RangeResponse{
			Header: &pb.ResponseHeader{Revision: s.rev},
			Count:  int64(s.count(sp, at)),
		}, nil
	}
	if sp.single && at == s.rev {
		return s.answerGet(r)
	}
	if s.measuring() {
		return s.measureRange(r, sp, at)
	}
	hits, total, err := s.collect(sp, at, rangeLimit(r))
	if err != nil {
		return nil, err
	}
	kvs, err := s.loadAll(hits, at, !r.KeysOnly || r.SortTarget == pb.RangeRequest_VALUE)
	if err != nil {
		return nil, err
	}
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: s.rev}, Count: int64(total)}
	kvs = filterKVs(kvs, r)
	sortKVs(kvs, r)
	resp.Kvs, resp.More = cut(kvs, r.Limit)
	if r.KeysOnly {
		for _, kv := range resp.Kvs {
			stripValue(kv, r)
		}
	}
	return resp, nil
}

// aGet is the answer to the most frequent read in one piece of memory.
type aGet struct {
	resp   pb.RangeResponse
	header pb.ResponseHeader
	kv     mvccpb.KeyValue
	kvs    [1]*mvccpb.KeyValue
}

// answerGet answers a range of one key at the newest revision.
func (s *state) answerGet(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	a := &aGet{}
	a.resp.Header = &a.header
	a.header.Revision = s.rev
	e := s.root.get(r.Key)
	if e == nil || e.dead() {
		return &a.resp, nil
	}
	a.resp.Count = 1
	if !e.whole() || !fill(&a.kv, e.enc()) {
		kv, err := s.loadOne(hit{e, e.rev()}, s.rev)
		if err != nil {
			return nil, err
		}
		a.kvs[0] = kv
	} else {
		a.kvs[0] = &a.kv
	}
	if s.room != nil {
		if err := s.room.take(hitBytes + 2*int64(kvSize(a.kvs[0]))); err != nil || s.room.Measure {
			return &pb.RangeResponse{Header: &a.header}, err
		}
	}
	if r.KeysOnly {
		stripValue(a.kvs[0], r)
	}
	a.resp.Kvs = filterKVs(a.kvs[:], r)
	return &a.resp, nil
}

// stripValue makes the answer to keys_only. etcd reads it from its index, which
// knows no lease, unless the result is sorted by value.
func stripValue(kv *mvccpb.KeyValue, r *pb.RangeRequest) {
	kv.Value = nil
	if r.SortTarget != pb.RangeRequest_VALUE {
		kv.Lease = 0
	}
}

// rangeLimit returns how many keys have to be read to answer r: one more than
// the limit, to know whether there are more; 0 for all of them.
func rangeLimit(r *pb.RangeRequest) int {
	if r.Limit <= 0 || !keyOrder(r.SortTarget, r.SortOrder) || filtered(r) || r.Limit >= math.MaxInt-1 {
		return 0
	}
	return int(r.Limit) + 1
}

// keyOrder reports whether the index's own order is the one asked for. As in
// etcd, order NONE counts as such for every target, although results for
// targets other than KEY are sorted afterwards.
func keyOrder(target pb.RangeRequest_SortTarget, order pb.RangeRequest_SortOrder) bool {
	return order == pb.RangeRequest_NONE ||
		order == pb.RangeRequest_ASCEND && target == pb.RangeRequest_KEY
}

func filtered(r *pb.RangeRequest) bool {
	return r.MaxModRevision != 0 || r.MinModRevision != 0 ||
		r.MaxCreateRevision != 0 || r.MinCreateRevision != 0
}

// collect returns the first limit keys (0: all) of sp that live at revision
// at, and how many there are without the limit. Error: ErrNoRoom.
func (s *state) collect(sp span, at int64, limit int) (hits []hit, total int, err error) {
	newest := at == s.rev
	if s.room != nil && !sp.single {
		n := s.root.count(sp.lo, sp.hi) // at an older revision there may be more, or fewer
		if limit > 0 {
			n = min(n, limit)
		}
		if err := s.room.take(int64(n) * hitBytes); err != nil {
			return nil, 0, err
		}
	}
	if newest {
		total = s.count(sp, at)
		n := total
		if limit > 0 {
			n = min(n, limit)
		}
		hits = make([]hit, 0, n)
	}
	counted := 0
	s.seek(sp, at, func(h hit) bool {
		counted++
		if limit == 0 || len(hits) < limit {
			hits = append(hits, h)
			return true
		}
		return !newest // an older total has to be counted to the end
	})
	if !newest {
		total = counted
	}
	return hits, total, nil
}

// loadAll returns the records of hits, allocated together.
func (s *state) loadAll(hits []hit, at int64, values bool) ([]*mvccpb.KeyValue, error) {
	if s.measuring() {
		_, err := s.measure(hits, at, values)
		return nil, err
	}
	slab := make([]mvccpb.KeyValue, len(hits))
	part := len(hits)
	if s.room != nil {
		part = chunkRecords
	}
	for i := 0; i < len(hits); i += part {
		end := min(i+part, len(hits))
		if _, err := s.loadPart(hits[i:end], slab[i:end], at, values); err != nil {
			return nil, err
		}
	}
	kvs := make([]*mvccpb.KeyValue, len(hits))
	for i := range slab {
		kvs[i] = &slab[i]
	}
	return kvs, nil
}

// filterKVs keeps, in place, what the minimum and maximum revisions let pass.
func filterKVs(kvs []*mvccpb.KeyValue, r *pb.RangeRequest) []*mvccpb.KeyValue {
	if !filtered(r) {
		return kvs
	}
	return slices.DeleteFunc(kvs, func(kv *mvccpb.KeyValue) bool {
		return r.MaxModRevision != 0 && kv.ModRevision > r.MaxModRevision ||
			r.MinModRevision != 0 && kv.ModRevision < r.MinModRevision ||
			r.MaxCreateRevision != 0 && kv.CreateRevision > r.MaxCreateRevision ||
			r.MinCreateRevision != 0 && kv.CreateRevision < r.MinCreateRevision
	})
}

// sortKVs orders by the target, equal ones by key. A target other than KEY
// without an order means ascending.
func sortKVs(kvs []*mvccpb.KeyValue, r *pb.RangeRequest) {
	descend := r.SortOrder == pb.RangeRequest_DESCEND
	if r.SortTarget == pb.RangeRequest_KEY {
		if descend {
			slices.Reverse(kvs)
		}
		return
	}
	slices.SortStableFunc(kvs, func(a, b *mvccpb.KeyValue) int {
		c := compareBy(r.SortTarget, a, b)
		if descend {
			return -c
		}
		return c
	})
}

func compareBy(target pb.RangeRequest_SortTarget, a, b *mvccpb.KeyValue) int {
	switch target {
	case pb.RangeRequest_VERSION:
		return cmp.Compare(a.Version, b.Version)
	case pb.RangeRequest_CREATE:
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	case pb.RangeRequest_MOD:
		return cmp.Compare(a.ModRevision, b.ModRevision)
	case pb.RangeRequest_VALUE:
		return bytes.Compare(a.Value, b.Value)
	}
	return bytes.Compare(a.Key, b.Key)
}

// cut shortens kvs to limit (0 and less: none).
func cut(kvs []*mvccpb.KeyValue, limit int64) (kept []*mvccpb.KeyValue, more bool) {
	if limit > 0 && int64(len(kvs)) > limit {
		return kvs[:limit], true
	}
	return kvs, false
}
