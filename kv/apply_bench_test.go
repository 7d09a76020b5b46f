package kv

import (
	"fmt"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What is applied keeps everybody waiting. These are the requests that take
// longest, in a million keys; longest-ms is the longest of them, which is what
// docs/ARCHITECTURE.md states.

// applied measures the applying of what request makes, whose effect undo takes
// back.
func applied(b *testing.B, f *fixture, request func(*Batch) error, undo func()) {
	b.Helper()
	b.ReportAllocs()
	longest := time.Duration(0)
	for b.Loop() {
		start := time.Now()
		v := f.s.View()
		bt := f.s.NewBatch()
		if err := request(bt); err != nil {
			b.Fatal(err)
		}
		now, c := bt.Freeze()
		longest = max(longest, time.Since(start))
		b.StopTimer()
		f.queue = append(f.queue, c)
		f.flushAll()
		if undo != nil && now.Rev() != v.Rev() {
			undo()
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
}

var everything = struct{ key, end []byte }{[]byte{0}, []byte{0}}

func rangeCompares(n int, target pb.Compare_CompareTarget, result pb.Compare_CompareResult) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range n {
		c := &pb.Compare{Key: everything.key, RangeEnd: everything.end, Target: target, Result: result}
		switch target {
		case pb.Compare_VALUE:
			c.TargetUnion = &pb.Compare_Value{Value: []byte("x")}
		default:
			c.TargetUnion = &pb.Compare_ModRevision{}
		}
		r.Compare = append(r.Compare, c)
	}
	return r
}

func BenchmarkApply_compareAll(b *testing.B) {
	f := filled(b, benchKeys)
	for name, target := range map[string]pb.Compare_CompareTarget{"mod": pb.Compare_MOD, "value": pb.Compare_VALUE} {
		b.Run(name, func(b *testing.B) {
			applied(b, f, func(bt *Batch) error {
				_, err := bt.Txn(rangeCompares(1, target, pb.Compare_NOT_EQUAL), None)
				return err
			}, nil)
		})
	}
}

func BenchmarkApply_deleteAll(b *testing.B) {
	for _, prev := range []bool{false, true} {
		b.Run(fmt.Sprintf("prev=%v", prev), func(b *testing.B) {
			f := filled(b, benchKeys)
			applied(b, f, func(bt *Batch) error {
				_, err := bt.DeleteRange(&pb.DeleteRangeRequest{Key: everything.key, RangeEnd: everything.end, PrevKv: prev}, Full)
				return err
			}, func() { refill(b, f, 0) })
		})
	}
}

// refill puts all keys again and forgets their history.
func refill(b *testing.B, f *fixture, lease int64) {
	b.Helper()
	for i := 0; i < benchKeys; i += 1000 {
		f.batch(func(bt *Batch) {
			for j := range 1000 {
				if _, err := bt.Put(&pb.PutRequest{Key: benchKey(i + j), Value: make([]byte, 256), Lease: lease}, None); err != nil {
					b.Fatal(err)
				}
			}
		})
		f.flushAll()
	}
	f.compact(f.s.View().Rev())
	f.settle()
}

func BenchmarkApply_revoke(b *testing.B) {
	f := filled(b, benchKeys)
	const keys = 100_000
	attach := func() {
		f.grant(7, 10)
		for i := 0; i < keys; i += 1000 {
			f.batch(func(bt *Batch) {
				for j := range 1000 {
					if _, err := bt.Put(&pb.PutRequest{Key: benchKey((i + j) * 10), Value: make([]byte, 256), Lease: 7}, None); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		f.flushAll()
	}
	attach()
	applied(b, f, func(bt *Batch) error { return bt.Revoke(7) }, attach)
}

// A transaction that reads all keys, and writes one.
func BenchmarkApply_rangeAll(b *testing.B) {
	f := filled(b, benchKeys)
	for name, r := range map[string]*pb.RangeRequest{
		"plain":  {},
		"sorted": {SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND, Limit: 1},
		"filter": {MinModRevision: 1 << 40},
	} {
		b.Run(name, func(b *testing.B) {
			r.Key, r.RangeEnd = everything.key, everything.end
			txn := &pb.TxnRequest{Success: []*pb.RequestOp{opPut("x", "y"), {Request: &pb.RequestOp_RequestRange{RequestRange: r}}}}
			applied(b, f, func(bt *Batch) error {
				_, err := bt.Txn(txn, Full)
				return err
			}, nil)
		})
	}
}

// As many puts as a request of 1.5 MiB can have, nested as deep as can be.
func BenchmarkApply_deepest(b *testing.B) {
	f := filled(b, benchKeys)
	n := 0
	leaf := func() *pb.RequestOp {
		ops := make([]*pb.RequestOp, 7)
		for i := range ops {
			n++
			ops[i] = opPut(fmt.Sprintf("%05x", n*7919%(1<<20)), "")
		}
		return opTxn(&pb.TxnRequest{Success: ops})
	}
	var inner []*pb.RequestOp
	for range 7000 {
		inner = append(inner, leaf())
	}
	for part := range slices.Chunk(inner, 64) {
		inner = append(inner[:0:0], opTxn(&pb.TxnRequest{Success: part}), opTxn(&pb.TxnRequest{Success: inner[len(part):]}))
		break
	}
	for range 100 {
		inner = []*pb.RequestOp{opTxn(&pb.TxnRequest{Success: inner})}
	}
	applied(b, f, func(bt *Batch) error {
		_, err := bt.Txn(&pb.TxnRequest{Success: inner}, Full)
		return err
	}, nil)
}

// BenchmarkApply_puts is a batch as large as a member makes them.
func BenchmarkApply_puts(b *testing.B) {
	f := filled(b, benchKeys)
	reqs := make([]*pb.PutRequest, 4096)
	for i := range reqs {
		reqs[i] = &pb.PutRequest{Key: benchKey(i * 7919 % benchKeys), Value: make([]byte, 192)}
	}
	applied(b, f, func(bt *Batch) error {
		for _, r := range reqs {
			if _, err := bt.Put(r, Full); err != nil {
				return err
			}
		}
		return nil
	}, nil)
}
