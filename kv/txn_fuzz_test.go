package kv

import (
	"errors"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// shaped reports whether a transaction can come past the checks of the API that
// the store relies on. Keys that are written twice do not matter to it.
func shaped(r *pb.TxnRequest) bool {
	for _, c := range r.Compare {
		if len(c.Key) == 0 {
			return false
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if !shapedOp(op) {
				return false
			}
		}
	}
	return true
}

func shapedOp(op *pb.RequestOp) bool {
	switch q := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		r := q.RequestRange
		return len(r.GetKey()) > 0 && r.SortOrder >= 0 && r.SortOrder <= pb.RangeRequest_DESCEND &&
			r.SortTarget >= 0 && r.SortTarget <= pb.RangeRequest_VALUE
	case *pb.RequestOp_RequestPut:
		r := q.RequestPut
		return len(r.GetKey()) > 0 && (!r.IgnoreValue || len(r.Value) == 0) && (!r.IgnoreLease || r.Lease == 0)
	case *pb.RequestOp_RequestDeleteRange:
		return len(q.RequestDeleteRange.GetKey()) > 0
	case *pb.RequestOp_RequestTxn:
		return q.RequestTxn != nil && shaped(q.RequestTxn)
	}
	return false
}

// known reports whether the model knows what the compares of r ask for.
func known(r *pb.TxnRequest) bool {
	for _, c := range r.Compare {
		if _, ok := pb.Compare_CompareTarget_name[int32(c.Target)]; !ok {
			return false
		}
		if _, ok := pb.Compare_CompareResult_name[int32(c.Result)]; !ok {
			return false
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if t := op.GetRequestTxn(); t != nil && !known(t) {
				return false
			}
		}
	}
	return true
}

// FuzzBatch_txn performs a transaction on a store with a little history and on
// the model.
func FuzzBatch_txn(f *testing.F) {
	seeds := &runner{rnd: rand.New(rand.NewPCG(5, 5)), keys: 6, m: &model{rev: 20, compactRev: 5}}
	for range 50 {
		b, err := proto.Marshal(seeds.txnReq(3))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &pb.TxnRequest{}
		if proto.Unmarshal(b, r) != nil || !shaped(r) || !known(r) {
			return
		}
		run := &runner{fixture: newFixture(t, Options{MaxInline: 20}), m: newModel(), keys: 6, rnd: rand.New(rand.NewPCG(6, 6))}
		run.batch(func(bt *Batch) {
			for range 20 {
				run.step(bt)
			}
		})
		run.batch(func(bt *Batch) {
			got, gotErr := bt.Txn(r, Full)
			want, wantErr := run.m.Txn(r)
			if gotErr != nil && !IsAnswer(gotErr) {
				t.Fatal(gotErr)
			}
			if !errors.Is(gotErr, wantErr) || gotErr != nil && wantErr == nil {
				t.Fatalf("error %v, want %v", gotErr, wantErr)
			}
			if gotErr == nil && !proto.Equal(got, want) {
				t.Fatalf("%v\ngot  %v\nwant %v", r, got, want)
			}
		})
		run.readAll(run.s.View())
	})
}
