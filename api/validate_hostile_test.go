package api

import (
	"errors"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// hostile is the costliest transaction that is not too large: as many puts as
// fit, as deep as may be, with a put beside them on every level.
func hostile(maxBytes int) *pb.TxnRequest {
	n := 0
	leaf := func(width int) *pb.RequestOp {
		return opTxn(repeat(width, func(int) *pb.RequestOp { n++; return opPut(fmt.Sprintf("%05x", n*7919%(1<<20))) }), nil)
	}
	var inner []*pb.RequestOp
	for size := 0; size < maxBytes*3/4 && len(inner) < 24; {
		mid := opTxn(repeat(20, func(int) *pb.RequestOp {
			return opTxn(repeat(16, func(int) *pb.RequestOp { return leaf(7) }), nil)
		}), nil)
		size += proto.Size(mid)
		inner = append(inner, mid)
	}
	for level := range 30 {
		inner = ops(opTxn(inner, nil), opPut(fmt.Sprintf("level-%d", level)))
	}
	return &pb.TxnRequest{Success: inner}
}

func BenchmarkTxn_hostile(b *testing.B) {
	r := hostile(3 << 19)
	v := validator{maxTxnOps: 128}
	b.ReportMetric(float64(proto.Size(r)), "bytes")
	for b.Loop() {
		if err := v.txn(r); err != nil {
			b.Fatal(err)
		}
	}
}

// One put too much is found however deep and wide the transaction is.
func TestTxn_hostileDuplicate(t *testing.T) {
	r := hostile(3 << 18)
	v := validator{maxTxnOps: 128}
	if err := v.txn(r); err != nil {
		t.Fatal(err)
	}
	r.Success = append(r.Success, opPut(fmt.Sprintf("%05x", 7919)))
	if err := v.txn(r); !errors.Is(err, rpctypes.ErrGRPCDuplicateKey) {
		t.Errorf("got %v", err)
	}
}
