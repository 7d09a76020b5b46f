package api

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// validator checks the shape of a request: what can be refused without
// knowing any state. Its errors are etcd's published gRPC errors.
type validator struct {
	maxTxnOps       int // per list of a transaction, shared with nested ones
	maxRequestBytes int // of a marshalled request that would be proposed
}

// size refuses a request too large to be proposed.
func (v *validator) size(m proto.Message) error {
	if proto.Size(m) > v.maxRequestBytes {
		return rpctypes.ErrGRPCRequestTooLarge
	}
	return nil
}

func checkRange(r *pb.RangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	if o := r.GetSortOrder(); o < pb.RangeRequest_NONE || o > pb.RangeRequest_DESCEND {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	if t := r.GetSortTarget(); t < pb.RangeRequest_KEY || t > pb.RangeRequest_VALUE {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

func checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.GetKey()) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.GetIgnoreValue() && len(r.GetValue()) != 0:
		return rpctypes.ErrGRPCValueProvided
	case r.GetIgnoreLease() && r.GetLease() != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return nil
}

func checkDelete(r *pb.DeleteRangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return nil
}

// proposed tells whether a transaction becomes a log entry: all do but those
// of nothing but ranges.
func proposed(r *pb.TxnRequest) bool {
	for _, list := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range list {
			if op.GetRequestRange() == nil {
				return true
			}
		}
	}
	return false
}

// txn checks a whole transaction, nested ones included.
func (v *validator) txn(r *pb.TxnRequest) error {
	if err := checkTxn(r, v.maxTxnOps); err != nil {
		return err
	}
	if _, err := branchWrites(r.GetSuccess()); err != nil {
		return err
	}
	_, err := branchWrites(r.GetFailure())
	return err
}

// checkTxn checks the shape of r against a budget of operations per list. A
// nested transaction gets what its parent's longest list left over, so the
// depth of nesting is bounded by the budget as well.
func checkTxn(r *pb.TxnRequest, budget int) error {
	longest := max(len(r.GetCompare()), len(r.GetSuccess()), len(r.GetFailure()))
	if longest > budget {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, c := range r.GetCompare() {
		if len(c.GetKey()) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, op := range r.GetSuccess() {
		if err := checkOp(op, budget-longest); err != nil {
			return err
		}
	}
	for _, op := range r.GetFailure() {
		if err := checkOp(op, budget-longest); err != nil {
			return err
		}
	}
	return nil
}

// checkOp checks one operation of a transaction like an RPC of its own.
func checkOp(op *pb.RequestOp, budget int) error {
	switch u := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		return checkRange(u.RequestRange)
	case *pb.RequestOp_RequestPut:
		return checkPut(u.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return checkDelete(u.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return checkTxn(u.RequestTxn, budget)
	}
	// An operation without content: etcd's word for it is "key not found".
	return rpctypes.ErrGRPCKeyNotFound
}
