package kv

import (
	"bytes"
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// A model is the store's behaviour written down naively: the list of all
// records ever, searched from one end to the other.
type model struct {
	recs       []modelRec
	rev        int64
	compactRev int64
	first      int // records before the open request
	leases     map[int64]Lease
	clock      int64
}

type modelRec struct {
	main, sub int64
	tomb      bool
	kv        *mvccpb.KeyValue
}

func newModel() *model { return &model{rev: 1, compactRev: -1, leases: map[int64]Lease{}} }

func (m *model) begin() { m.first = len(m.recs) }

func (m *model) nowRev() int64 {
	if len(m.recs) > m.first {
		return m.rev + 1
	}
	return m.rev
}

func (m *model) end() { m.rev = m.nowRev(); m.first = len(m.recs) }

func (m *model) add(tomb bool, kv *mvccpb.KeyValue) {
	m.recs = append(m.recs, modelRec{m.rev + 1, int64(len(m.recs) - m.first), tomb, kv})
}

func within(k, key, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(k, key)
	case string(end) == "\x00":
		return bytes.Compare(k, key) >= 0
	}
	return bytes.Compare(k, key) >= 0 && bytes.Compare(k, end) < 0
}

// at returns copies of the records visible at rev, by key.
func (m *model) at(key, end []byte, rev int64) []*mvccpb.KeyValue {
	newest := map[string]modelRec{}
	for _, r := range m.recs {
		if r.main <= rev && within(r.kv.Key, key, end) {
			newest[string(r.kv.Key)] = r
		}
	}
	var kvs []*mvccpb.KeyValue
	for _, r := range newest {
		if !r.tomb {
			kvs = append(kvs, proto.Clone(r.kv).(*mvccpb.KeyValue))
		}
	}
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return kvs
}

func (m *model) get(key []byte) *mvccpb.KeyValue {
	if kvs := m.at(key, nil, m.nowRev()); len(kvs) == 1 {
		return kvs[0]
	}
	return nil
}

func (m *model) Range(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	now := m.nowRev()
	at := r.Revision
	if at > now {
		return nil, ErrFutureRevision
	}
	if at <= 0 {
		at = now
	}
	if at < m.compactRev {
		return nil, ErrCompacted
	}
	kvs := m.at(r.Key, r.RangeEnd, at)
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: now}, Count: int64(len(kvs))}
	if r.CountOnly {
		return resp, nil
	}
	filters := r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
	natural := r.SortOrder == pb.RangeRequest_NONE || r.SortOrder == pb.RangeRequest_ASCEND && r.SortTarget == pb.RangeRequest_KEY
	if natural && !filters && r.Limit > 0 && int64(len(kvs)) > r.Limit+1 {
		kvs = kvs[:r.Limit+1]
	}
	var kept []*mvccpb.KeyValue
	for _, kv := range kvs {
		if (r.MaxModRevision == 0 || kv.ModRevision <= r.MaxModRevision) && kv.ModRevision >= r.MinModRevision &&
			(r.MaxCreateRevision == 0 || kv.CreateRevision <= r.MaxCreateRevision) && kv.CreateRevision >= r.MinCreateRevision {
			kept = append(kept, kv)
		}
	}
	m.sort(kept, r)
	if r.Limit > 0 && int64(len(kept)) > r.Limit {
		kept, resp.More = kept[:r.Limit], true
	}
	for _, kv := range kept {
		if r.KeysOnly {
			kv.Value = nil
			if r.SortTarget != pb.RangeRequest_VALUE { // etcd's index knows no lease
				kv.Lease = 0
			}
		}
	}
	resp.Kvs = kept
	return resp, nil
}

func (m *model) sort(kvs []*mvccpb.KeyValue, r *pb.RangeRequest) {
	less := map[pb.RangeRequest_SortTarget]func(a, b *mvccpb.KeyValue) int{
		pb.RangeRequest_KEY:     func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) },
		pb.RangeRequest_VERSION: func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.Version, b.Version) },
		pb.RangeRequest_CREATE:  func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) },
		pb.RangeRequest_MOD:     func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) },
		pb.RangeRequest_VALUE:   func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Value, b.Value) },
	}[r.SortTarget]
	slices.SortStableFunc(kvs, func(a, b *mvccpb.KeyValue) int {
		if r.SortOrder == pb.RangeRequest_DESCEND {
			return less(b, a)
		}
		return less(a, b)
	})
}

func (m *model) Put(r *pb.PutRequest) (*pb.PutResponse, error) {
	if !m.granted(r.Lease) {
		return nil, ErrLeaseNotFound
	}
	m.begin()
	defer m.end()
	return m.putOp(r)
}

func (m *model) putOp(r *pb.PutRequest) (*pb.PutResponse, error) {
	prev := m.get(r.Key)
	if (r.IgnoreLease || r.IgnoreValue) && prev == nil {
		return nil, ErrKeyNotFound
	}
	kv := &mvccpb.KeyValue{Key: r.Key, Value: r.Value, CreateRevision: m.rev + 1, ModRevision: m.rev + 1, Version: 1, Lease: r.Lease}
	if prev != nil {
		kv.CreateRevision, kv.Version = prev.CreateRevision, prev.Version+1
		if r.IgnoreValue {
			kv.Value = prev.Value
		}
		if r.IgnoreLease {
			kv.Lease = prev.Lease
		}
	}
	m.add(false, kv)
	resp := &pb.PutResponse{Header: &pb.ResponseHeader{Revision: m.nowRev()}}
	if r.PrevKv {
		resp.PrevKv = prev
	}
	return resp, nil
}

func (m *model) DeleteRange(r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	m.begin()
	defer m.end()
	return m.deleteOp(r)
}

func (m *model) deleteOp(r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	kvs := m.at(r.Key, r.RangeEnd, m.nowRev())
	resp := &pb.DeleteRangeResponse{Deleted: int64(len(kvs))}
	for _, kv := range kvs {
		m.add(true, &mvccpb.KeyValue{Key: kv.Key})
	}
	if r.PrevKv {
		resp.PrevKvs = kvs
	}
	resp.Header = &pb.ResponseHeader{Revision: m.nowRev()}
	return resp, nil
}

func (m *model) Compact(r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	if r.Revision <= m.compactRev {
		return nil, ErrCompacted
	}
	if r.Revision > m.rev {
		return nil, ErrFutureRevision
	}
	m.compactRev = r.Revision
	return &pb.CompactionResponse{Header: &pb.ResponseHeader{Revision: m.rev}}, nil
}

func (m *model) compare(c *pb.Compare) bool {
	kvs := m.at(c.Key, c.RangeEnd, m.nowRev())
	if len(kvs) == 0 {
		if c.Target == pb.Compare_VALUE {
			return false
		}
		kvs = []*mvccpb.KeyValue{{}}
	}
	for _, kv := range kvs {
		o := map[pb.Compare_CompareTarget]int{
			pb.Compare_VALUE:   bytes.Compare(kv.Value, c.GetValue()),
			pb.Compare_CREATE:  cmp.Compare(kv.CreateRevision, c.GetCreateRevision()),
			pb.Compare_MOD:     cmp.Compare(kv.ModRevision, c.GetModRevision()),
			pb.Compare_VERSION: cmp.Compare(kv.Version, c.GetVersion()),
			pb.Compare_LEASE:   cmp.Compare(kv.Lease, c.GetLease()),
		}[c.Target]
		if !map[pb.Compare_CompareResult]bool{
			pb.Compare_EQUAL: o == 0, pb.Compare_NOT_EQUAL: o != 0, pb.Compare_LESS: o < 0, pb.Compare_GREATER: o > 0,
		}[c.Result] {
			return false
		}
	}
	return true
}

// A modelPath is the outcome of a transaction's compares.
type modelPath struct {
	ok   bool
	kids map[*pb.TxnRequest]*modelPath
}

func (m *model) path(r *pb.TxnRequest) *modelPath {
	p := &modelPath{ok: true, kids: map[*pb.TxnRequest]*modelPath{}}
	for _, c := range r.Compare {
		p.ok = p.ok && m.compare(c)
	}
	for _, op := range branch(r, p.ok) {
		if t := op.GetRequestTxn(); t != nil {
			p.kids[t] = m.path(t)
		}
	}
	return p
}

func (m *model) check(r *pb.TxnRequest, p *modelPath) error {
	for _, op := range branch(r, p.ok) {
		if q := op.GetRequestRange(); q != nil && q.Revision > m.rev {
			return ErrFutureRevision
		} else if q != nil && q.Revision != 0 && q.Revision < m.compactRev {
			return ErrCompacted
		}
		if q := op.GetRequestPut(); q != nil && !m.granted(q.Lease) {
			return ErrLeaseNotFound
		} else if q != nil && (q.IgnoreLease || q.IgnoreValue) && m.get(q.Key) == nil {
			return ErrKeyNotFound
		}
		if q := op.GetRequestTxn(); q != nil {
			if err := m.check(q, p.kids[q]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *model) Txn(r *pb.TxnRequest) (*pb.TxnResponse, error) {
	m.begin()
	p := m.path(r)
	if err := m.check(r, p); err != nil {
		return nil, err
	}
	resp, err := m.perform(r, p)
	if err != nil {
		m.recs = m.recs[:m.first]
		return nil, err
	}
	m.end()
	resp.Header.Revision = m.rev
	return resp, nil
}

func (m *model) perform(r *pb.TxnRequest, p *modelPath) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: p.ok}
	for _, op := range branch(r, p.ok) {
		var err error
		out := &pb.ResponseOp{}
		switch q := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			var a *pb.RangeResponse
			a, err = m.Range(q.RequestRange)
			out.Response = &pb.ResponseOp_ResponseRange{ResponseRange: a}
		case *pb.RequestOp_RequestPut:
			var a *pb.PutResponse
			a, err = m.putOp(q.RequestPut)
			out.Response = &pb.ResponseOp_ResponsePut{ResponsePut: a}
		case *pb.RequestOp_RequestDeleteRange:
			var a *pb.DeleteRangeResponse
			a, err = m.deleteOp(q.RequestDeleteRange)
			out.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: a}
		case *pb.RequestOp_RequestTxn:
			var a *pb.TxnResponse
			a, err = m.perform(q.RequestTxn, p.kids[q.RequestTxn])
			out.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: a}
		}
		if err != nil {
			return nil, err
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp, nil
}
