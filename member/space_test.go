package member

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func TestGrows_onlyWithAPut(t *testing.T) {
	op := func(r *pb.RequestOp) []*pb.RequestOp { return []*pb.RequestOp{r} }
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{}}}
	del := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{}}}
	nested := func(inner *pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: op(inner)}}}
	}
	for _, c := range []struct {
		name string
		msg  proto.Message
		want bool
	}{
		{"put", &pb.PutRequest{}, true},
		{"delete", &pb.DeleteRangeRequest{}, false},
		{"compaction", &pb.CompactionRequest{}, false},
		{"txn that deletes", &pb.TxnRequest{Success: op(del), Failure: op(nested(del))}, false},
		{"txn that puts", &pb.TxnRequest{Success: op(put)}, true},
		{"txn that puts otherwise", &pb.TxnRequest{Success: op(del), Failure: op(put)}, true},
		{"put inside", &pb.TxnRequest{Success: op(nested(nested(put)))}, true},
	} {
		if got := grows(c.msg); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
