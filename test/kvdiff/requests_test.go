package kvdiff

import (
	"fmt"
	"math/rand/v2"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// unstable is the number of elements from which on Go's sort.Sort, and so the
// order that etcd gives to equal elements, is unstable.
const unstable = 12

// A requests makes random requests on few keys, so that they meet each other.
type requests struct {
	rnd  *rand.Rand
	keys int
	rev  func() int64 // newest revision
}

func (r *requests) key() []byte { return fmt.Appendf(nil, "k%03d", r.rnd.IntN(r.keys)) }

func (r *requests) value() []byte { return []byte(strings.Repeat("v", r.rnd.IntN(60))) }

// span is one key, a range (which may be empty), or an open end.
func (r *requests) span() (key, end []byte) {
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

// write is a request that changes the store, unless it is refused.
func (r *requests) write() proto.Message {
	switch n := r.rnd.IntN(100); {
	case n < 45:
		return r.put()
	case n < 60:
		return r.deleteRange()
	case n < 95:
		// The API refuses to put a key twice, or to put and delete it.
		if r.rnd.IntN(2) == 0 {
			return r.txn(2, r.putOnce(map[string]bool{}))
		}
		return r.txn(2, func() *pb.RequestOp {
			return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r.deleteRange()}}
		})
	}
	return &pb.CompactionRequest{Revision: r.rev() - r.rnd.Int64N(12) + 1}
}

func (r *requests) rangeRequest() *pb.RangeRequest {
	q := &pb.RangeRequest{CountOnly: r.rnd.IntN(8) == 0, KeysOnly: r.rnd.IntN(4) == 0}
	if r.rnd.IntN(2) == 0 {
		q.Revision = r.rnd.Int64N(r.rev()+3) - 1
	}
	q.Key, q.RangeEnd = r.span()
	if r.rnd.IntN(3) == 0 {
		q.Limit = r.rnd.Int64N(6)
	}
	if r.rnd.IntN(3) == 0 {
		q.SortOrder = pb.RangeRequest_SortOrder(r.rnd.IntN(3))
		if r.keys < unstable {
			q.SortTarget = pb.RangeRequest_SortTarget(r.rnd.IntN(5))
		}
	}
	for _, p := range []*int64{&q.MinModRevision, &q.MaxModRevision, &q.MinCreateRevision, &q.MaxCreateRevision} {
		if r.rnd.IntN(10) == 0 {
			*p = r.rnd.Int64N(r.rev() + 2)
		}
	}
	return q
}

// put names lease 1, which nobody granted, now and then.
func (r *requests) put() *pb.PutRequest {
	q := &pb.PutRequest{Key: r.key(), PrevKv: r.rnd.IntN(3) == 0}
	switch r.rnd.IntN(10) {
	case 0:
		q.IgnoreValue = true
	case 1:
		q.IgnoreLease = true
	case 2:
		q.Lease = int64(r.rnd.IntN(2))
	}
	if !q.IgnoreValue {
		q.Value = r.value()
	}
	return q
}

func (r *requests) deleteRange() *pb.DeleteRangeRequest {
	q := &pb.DeleteRangeRequest{Key: r.key(), PrevKv: r.rnd.IntN(2) == 0}
	if r.rnd.IntN(6) == 0 {
		q.Key, q.RangeEnd = r.span()
	}
	return q
}

func (r *requests) compare() *pb.Compare {
	c := &pb.Compare{Result: pb.Compare_CompareResult(r.rnd.IntN(4)), Target: pb.Compare_CompareTarget(r.rnd.IntN(5))}
	c.Key, c.RangeEnd = r.span()
	n := r.rnd.Int64N(4)
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: n}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: n * r.rev() / 3}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: n * r.rev() / 3}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: r.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: n}
	}
	return c
}

// putOnce makes puts of keys that are not in done; none if chance names one
// that is.
func (r *requests) putOnce(done map[string]bool) func() *pb.RequestOp {
	return func() *pb.RequestOp {
		q := r.put()
		if done[string(q.Key)] {
			return nil
		}
		done[string(q.Key)] = true
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: q}}
	}
}

// txn nests to the given depth. write makes its writes, of any depth.
func (r *requests) txn(depth int, write func() *pb.RequestOp) *pb.TxnRequest {
	q := &pb.TxnRequest{}
	for range r.rnd.IntN(3) {
		q.Compare = append(q.Compare, r.compare())
	}
	for _, ops := range []*[]*pb.RequestOp{&q.Success, &q.Failure} {
		for range r.rnd.IntN(4) {
			var op *pb.RequestOp
			switch n := r.rnd.IntN(10); {
			case n < 3:
				op = &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r.rangeRequest()}}
			case n < 9 || depth == 0:
				op = write()
			default:
				op = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r.txn(depth-1, write)}}
			}
			if op != nil {
				*ops = append(*ops, op)
			}
		}
	}
	return q
}
