package kv

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// A runner performs the same random requests on a store and on the model.
type runner struct {
	*fixture
	m     *model
	rnd   *rand.Rand
	keys  int
	marks []mark // model after each queued change set
	disk  mark   // model at the newest written one
	owed  []debt
}

// A debt is an answer that was given without a part, and the whole one.
type debt struct {
	o         *Owed
	req       proto.Message
	got, want proto.Message
}

// pay completes a debt now and then: what was written, compacted and pruned
// since must make no difference.
func (r *runner) pay(all bool) {
	r.t.Helper()
	r.owed = slices.DeleteFunc(r.owed, func(d debt) bool {
		if !all && r.rnd.IntN(3) > 0 {
			return false
		}
		r.same(d.req, d.got, d.o.Pay(nil), d.want, nil)
		d.o.Drop()
		return true
	})
}

// A mark is a point to which the model can go back.
type mark struct {
	recs            int
	rev, compactRev int64
	leases          map[int64]Lease
	clock           int64
}

func (r *runner) mark() mark {
	return mark{len(r.m.recs), r.m.rev, r.m.compactRev, maps.Clone(r.m.leases), r.m.clock}
}

func (r *runner) key() []byte { return fmt.Appendf(nil, "k%03d", r.rnd.IntN(r.keys)) }

func (r *runner) span() (key, end []byte) {
	switch r.rnd.IntN(6) {
	case 0:
		return r.key(), []byte{0}
	case 1:
		return []byte{0}, []byte{0}
	case 2, 3:
		return r.key(), r.key()
	}
	return r.key(), nil
}

func (r *runner) revision() int64 {
	switch r.rnd.IntN(6) {
	case 0, 1:
		return 0
	case 2:
		return r.m.compactRev + r.rnd.Int64N(3) - 1
	}
	return r.rnd.Int64N(r.m.rev + 2)
}

func (r *runner) rangeReq() *pb.RangeRequest {
	q := &pb.RangeRequest{Revision: r.revision(), CountOnly: r.rnd.IntN(8) == 0, KeysOnly: r.rnd.IntN(4) == 0}
	q.Key, q.RangeEnd = r.span()
	if r.rnd.IntN(3) == 0 {
		q.Limit = r.rnd.Int64N(6)
	}
	if r.rnd.IntN(3) == 0 {
		q.SortOrder = pb.RangeRequest_SortOrder(r.rnd.IntN(3))
		q.SortTarget = pb.RangeRequest_SortTarget(r.rnd.IntN(5))
	}
	for _, p := range []*int64{&q.MinModRevision, &q.MaxModRevision, &q.MinCreateRevision, &q.MaxCreateRevision} {
		if r.rnd.IntN(10) == 0 {
			*p = r.rnd.Int64N(r.m.rev + 2)
		}
	}
	return q
}

func (r *runner) putReq() *pb.PutRequest {
	q := &pb.PutRequest{Key: r.key(), PrevKv: r.rnd.IntN(3) == 0}
	switch r.rnd.IntN(10) {
	case 0:
		q.IgnoreValue = true
	case 1:
		q.IgnoreLease = true
	case 2:
		q.Lease = r.leaseID()
	}
	if !q.IgnoreValue {
		q.Value = []byte(strings.Repeat("v", r.rnd.IntN(60)))
	}
	return q
}

func (r *runner) deleteReq() *pb.DeleteRangeRequest {
	q := &pb.DeleteRangeRequest{Key: r.key(), PrevKv: r.rnd.IntN(2) == 0}
	if r.rnd.IntN(6) == 0 {
		q.Key, q.RangeEnd = r.span()
	}
	return q
}

func (r *runner) compareReq() *pb.Compare {
	c := &pb.Compare{Result: pb.Compare_CompareResult(r.rnd.IntN(4)), Target: pb.Compare_CompareTarget(r.rnd.IntN(5))}
	c.Key, c.RangeEnd = r.span()
	n := r.rnd.Int64N(4)
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: n}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: n * r.m.rev / 3}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: n * r.m.rev / 3}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: []byte(strings.Repeat("v", r.rnd.IntN(60)))}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: n}
	}
	return c
}

func (r *runner) txnReq(depth int) *pb.TxnRequest {
	q := &pb.TxnRequest{}
	for range r.rnd.IntN(3) {
		q.Compare = append(q.Compare, r.compareReq())
	}
	for _, ops := range []*[]*pb.RequestOp{&q.Success, &q.Failure} {
		for range r.rnd.IntN(4) {
			op := &pb.RequestOp{}
			switch n := r.rnd.IntN(10); {
			case n < 3:
				op.Request = &pb.RequestOp_RequestRange{RequestRange: r.rangeReq()}
			case n < 7:
				op.Request = &pb.RequestOp_RequestPut{RequestPut: r.putReq()}
			case n < 9 || depth == 0:
				op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r.deleteReq()}
			default:
				op.Request = &pb.RequestOp_RequestTxn{RequestTxn: r.txnReq(depth - 1)}
			}
			*ops = append(*ops, op)
		}
	}
	return q
}

// same fails the test unless both answers are equal.
func (r *runner) same(req, got proto.Message, gotErr error, want proto.Message, wantErr error) {
	r.t.Helper()
	if !errors.Is(gotErr, wantErr) || gotErr != nil && wantErr == nil {
		r.t.Fatalf("%v\nerror %v, want %v", req, gotErr, wantErr)
	}
	if gotErr == nil && !proto.Equal(got, want) {
		r.t.Fatalf("%v\ngot  %v\nwant %v", req, got, want)
	}
}

// step performs one random request on the batch and on the model.
func (r *runner) step(b *Batch) {
	r.t.Helper()
	answer := Answer(r.rnd.IntN(3))
	if r.rnd.IntN(2) == 0 {
		b.quick = r.rnd.IntN(3)
	}
	var req, got, want proto.Message
	var gotErr, wantErr error
	switch n := r.rnd.IntN(100); {
	case n < 45:
		q := r.putReq()
		req = q
		got, gotErr = b.Put(q, answer)
		want, wantErr = r.m.Put(q)
	case n < 60:
		q := r.deleteReq()
		req = q
		got, gotErr = b.DeleteRange(q, answer)
		want, wantErr = r.m.DeleteRange(q)
	case n < 70:
		r.leaseStep(b)
		return
	case n < 96:
		q := r.txnReq(2)
		req = q
		got, gotErr = b.Txn(q, answer)
		want, wantErr = r.m.Txn(q)
	default:
		q := &pb.CompactionRequest{Revision: r.m.rev - r.rnd.Int64N(12) + 1}
		req = q
		got, gotErr = b.Compact(q, answer)
		want, wantErr = r.m.Compact(q)
	}
	if answer == None && gotErr == nil {
		got = want
	}
	if o := b.Owed(); o != nil && gotErr == nil {
		r.owed = append(r.owed, debt{o, req, got, want})
	} else {
		r.same(req, got, gotErr, want, wantErr)
	}
	if b.Rev() != r.m.rev {
		r.t.Fatalf("revision %d after %v, want %d", b.Rev(), req, r.m.rev)
	}
}

func (r *runner) read(v *View) {
	r.t.Helper()
	q := r.rangeReq()
	got, gotErr := v.Range(q)
	want, wantErr := r.m.Range(q)
	if q.KeysOnly && got != nil {
		for _, kv := range got.Kvs {
			if kv.Value != nil {
				r.t.Fatalf("%v: keys only, with the value %q", q, kv.Value)
			}
		}
	}
	r.same(q, got, gotErr, want, wantErr)
}

// crash goes back to what the file holds.
func (r *runner) crash() {
	r.t.Helper()
	r.open()
	r.marks, r.owed = nil, nil
	r.m.recs, r.m.compactRev = r.m.recs[:r.disk.recs], r.disk.compactRev
	r.m.rev = r.disk.rev
	r.m.leases, r.m.clock = maps.Clone(r.disk.leases), r.disk.clock
	r.m.first = len(r.m.recs)
	v := r.s.View()
	if v.Rev() != r.m.rev || v.CompactRev() != r.m.compactRev {
		r.t.Fatalf("opened at revision %d compacted %d, want %d and %d", v.Rev(), v.CompactRev(), r.m.rev, r.m.compactRev)
	}
}

func (r *runner) write(n int) {
	r.t.Helper()
	if n == 0 {
		return
	}
	r.disk = r.marks[n-1]
	r.marks = r.marks[n:]
	r.flush(n)
}

// readAll compares everything at every readable revision.
func (r *runner) readAll(v *View) {
	r.t.Helper()
	for rev := max(1, r.m.compactRev); rev <= r.m.rev; rev++ {
		q := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev}
		got, gotErr := v.Range(q)
		want, wantErr := r.m.Range(q)
		r.same(q, got, gotErr, want, wantErr)
	}
}

func (r *runner) run(batches int) {
	r.t.Helper()
	for range batches {
		v := r.batch(func(b *Batch) {
			for range r.rnd.IntN(8) {
				r.step(b)
			}
		})
		r.marks = append(r.marks, r.mark())
		r.sameLeases(v)
		r.pay(false)
		for range 4 {
			r.read(v)
		}
		switch n := r.rnd.IntN(20); {
		case n < 6:
			r.write(r.rnd.IntN(len(r.queue) + 1))
		case n == 6:
			r.write(r.rnd.IntN(len(r.queue) + 1))
			r.crash()
		case n == 7:
			r.readAll(v)
		case n == 8:
			r.write(len(r.queue))
			r.check()
		}
	}
	r.pay(true)
	r.readAll(r.s.View())
}

// One goroutine does all of it: for the race detector a part is enough (-short).
func TestStore_randomAgainstModel(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 1
	}
	for name, opts := range map[string]Options{
		"inline":        {},
		"none inline":   {MaxInline: -1, PruneStep: 1},
		"small budget":  {InlineBudget: 1000, PruneStep: 3, loadChunk: 7},
		"short values":  {MaxInline: 20, PruneStep: 7},
		"larger pruned": {MaxInline: 30, PruneStep: 40},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds {
				for _, keys := range []int{4, 30, 400} {
					t.Run(fmt.Sprintf("seed=%d,keys=%d", seed, keys), func(t *testing.T) {
						r := &runner{fixture: newFixture(t, opts), m: newModel(), keys: keys,
							rnd: rand.New(rand.NewPCG(seed, uint64(keys)))}
						r.disk = r.mark()
						r.run(120)
					})
				}
			}
		})
	}
}
