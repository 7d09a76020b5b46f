package kv

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func opPut(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
}

func opKeepValue(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), IgnoreValue: true}}}
}

func opDelete(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}}
}

func opGet(key string, rev int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key), Revision: rev}}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func exists(key string) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{}}
}

func TestBatch_txnErrorLeavesNoTrace(t *testing.T) {
	for name, c := range map[string]struct {
		ops  []*pb.RequestOp
		want error
	}{
		"compacted read":     {[]*pb.RequestOp{opPut("n", "1"), opGet("a", 2)}, ErrCompacted},
		"future read":        {[]*pb.RequestOp{opPut("n", "1"), opGet("a", 5)}, ErrFutureRevision},
		"absent key kept":    {[]*pb.RequestOp{opPut("n", "1"), opKeepValue("x")}, ErrKeyNotFound},
		"in a nested txn":    {[]*pb.RequestOp{opPut("n", "1"), opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opGet("a", 9)}})}, ErrFutureRevision},
		"deleted, then kept": {[]*pb.RequestOp{opPut("n", "1"), opDelete("a"), opKeepValue("a")}, ErrKeyNotFound},
		"unknown lease": {[]*pb.RequestOp{opPut("n", "1"), {Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: []byte("a"), Lease: 7}}}}, ErrLeaseNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{})
			f.put("a", "1", "b", "2", "a", "3")
			f.compact(3)
			before, err := f.s.HashKV(0)
			if err != nil {
				t.Fatal(err)
			}
			v := f.batch(func(b *Batch) {
				if _, err := b.Txn(&pb.TxnRequest{Success: c.ops}, Full); !errors.Is(err, c.want) || !IsAnswer(err) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if b.ch.Len() != 0 || b.ch.Bytes() != 0 {
					t.Errorf("%d changes of %d bytes", b.ch.Len(), b.ch.Bytes())
				}
			})
			if after, err := f.s.HashKV(0); err != nil || after != before || v.Len() != 2 {
				t.Errorf("hash %+v, %v, was %+v; %d keys", after, err, before, v.Len())
			}
			if v := f.put("a", "4"); v.Rev() != 5 {
				t.Errorf("next revision %d", v.Rev())
			}
		})
	}
}

// etcd evaluates nested compares before the first write as well.
func TestBatch_txnNestedCompareSeesStateBefore(t *testing.T) {
	f := newFixture(t, Options{})
	f.batch(func(b *Batch) {
		resp, err := b.Txn(&pb.TxnRequest{Success: []*pb.RequestOp{
			opPut("a", "1"),
			opTxn(&pb.TxnRequest{Compare: []*pb.Compare{exists("a")}, Success: []*pb.RequestOp{opPut("b", "yes")}, Failure: []*pb.RequestOp{opGet("a", 0)}}),
		}}, Full)
		if err != nil {
			t.Fatal(err)
		}
		nested := resp.Responses[1].GetResponseTxn()
		if nested.Succeeded || nested.Header.Revision != 0 {
			t.Errorf("nested answer %v", nested)
		}
		read := nested.Responses[0].GetResponseRange()
		if read.Header.Revision != 2 || len(read.Kvs) != 1 || read.Kvs[0].ModRevision != 2 {
			t.Errorf("a range does not see the put before it: %v", read)
		}
		if resp.Header.Revision != 2 || b.Rev() != 2 {
			t.Errorf("revision %d", resp.Header.Revision)
		}
	})
}

func TestBatch_txnWithoutWritesKeepsRevision(t *testing.T) {
	f := newFixture(t, Options{})
	v := f.batch(func(b *Batch) {
		resp, err := b.Txn(&pb.TxnRequest{Success: []*pb.RequestOp{opDelete("none"), opGet("none", 0)}}, Full)
		if err != nil || resp.Header.Revision != 1 || resp.Responses[0].GetResponseDeleteRange().Header.Revision != 1 {
			t.Errorf("%v, %v", resp, err)
		}
		if _, err := b.Txn(&pb.TxnRequest{Compare: []*pb.Compare{exists("none")}, Success: []*pb.RequestOp{opPut("a", "1")}}, None); err != nil {
			t.Error(err)
		}
	})
	if v.Rev() != 1 || len(f.queue[0].recs) != 0 {
		t.Errorf("revision %d", v.Rev())
	}
}

func TestView_readTxnRefusesWrites(t *testing.T) {
	f := newFixture(t, Options{})
	v := f.put("a", "1")
	resp, err := v.ReadTxn(&pb.TxnRequest{Compare: []*pb.Compare{exists("a")}, Success: []*pb.RequestOp{opGet("a", 0)}}, nil)
	if err != nil || !resp.Succeeded || resp.Header.Revision != 2 || len(resp.Responses[0].GetResponseRange().Kvs) != 1 {
		t.Errorf("%v, %v", resp, err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a deletion was accepted")
		}
	}()
	_, _ = v.ReadTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opDelete("a")}}, nil)
}
