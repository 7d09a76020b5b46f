package member

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// roomFor refuses a write that makes the store grow while a member's disk is
// nearly full. What makes room, or is needed to run the cluster, always passes.
func (m *Member) roomFor(msg proto.Message) error {
	if !grows(msg) || !m.node.Full() {
		return nil
	}
	return ErrNoSpace
}

// grows reports whether a request may put a key.
func grows(msg proto.Message) bool {
	switch r := msg.(type) {
	case *pb.PutRequest:
		return true
	case *pb.TxnRequest:
		return anyGrows(r.Success) || anyGrows(r.Failure)
	}
	return false
}

func anyGrows(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		if op.GetRequestPut() != nil || op.GetRequestTxn() != nil && grows(op.GetRequestTxn()) {
			return true
		}
	}
	return false
}
