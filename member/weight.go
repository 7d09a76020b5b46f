package member

import (
	"context"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

const (
	// heavyKeys is how many keys a request may look at or write while it is
	// applied without waiting for its turn, and how many those of one batch may
	// together. It is about ten milliseconds.
	heavyKeys = 10_000
	// maxKept bounds the old values that one request writes again with
	// ignore_value, in bytes: it is short itself, and they are not.
	maxKept = 16 << 20
)

// weight is what applying a request costs, as far as its view can tell. Of what
// changes until then it knows nothing; it is fairness, no promise.
type weight struct {
	keys  int // looked at or written
	bytes int // of old values written again
}

// weigh looks at all branches of a transaction.
func weigh(v *kv.View, msg proto.Message) weight {
	w := weight{keys: 1}
	switch r := msg.(type) {
	case *pb.PutRequest:
		if r.IgnoreValue {
			w.bytes = v.ValueSize(r.Key)
		}
	case *pb.DeleteRangeRequest:
		w.keys += v.Living(r.Key, r.RangeEnd)
	case *pb.LeaseRevokeRequest:
		w.keys += v.LeaseKeyCount(r.ID)
	case *pb.TxnRequest:
		w.add(weighOps(v, r.Success))
		w.add(weighOps(v, r.Failure))
		compared := 0
		for _, c := range r.Compare {
			compared += v.Living(c.Key, c.RangeEnd)
		}
		w.keys += min(compared, kv.MaxCompared)
	}
	return w
}

func weighOps(v *kv.View, ops []*pb.RequestOp) (w weight) {
	for _, op := range ops {
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			w.add(weigh(v, r.RequestPut))
		case *pb.RequestOp_RequestDeleteRange:
			w.add(weigh(v, r.RequestDeleteRange))
		case *pb.RequestOp_RequestTxn:
			w.add(weigh(v, r.RequestTxn))
		}
	}
	return w
}

// weighRights is how many keys a decision looks at, while the request is applied: all
// those of each lease that it attaches keys to, once.
func weighRights(v *fsm.View, user string, msg proto.Message) (keys int) {
	u := v.Auth.User(user)
	if u == nil || slices.Contains(u.Roles(), auth.Root) {
		return 0
	}
	switch r := msg.(type) {
	case *pb.PutRequest:
		keys = leaseKeys(v.KV, r.GetLease())
	case *pb.TxnRequest:
		leases := make(map[int64]struct{})
		auth.EachLease(r, func(id int64) bool {
			leases[id] = struct{}{}
			return true
		})
		for id := range leases {
			keys += leaseKeys(v.KV, id)
		}
	}
	return keys
}

func leaseKeys(v *kv.View, id int64) int {
	if id == 0 {
		return 0
	}
	return v.LeaseKeyCount(id)
}

func (w *weight) add(o weight) {
	w.keys += o.keys
	w.bytes += o.bytes
}

// heavy has requests of a member that take long to apply wait for each other, so
// that others come in between: at most one of each member is in the log and not
// applied.
type heavy chan struct{}

// enter waits for a turn, and gives it to a waiter, whose answer ends it: the
// client may go before.
func (h heavy) enter(ctx context.Context, m *Member, w *waiter) error {
	timeout := time.NewTimer(m.cfg.RequestTimeout)
	defer timeout.Stop()
	select {
	case h <- struct{}{}:
		w.turn = h
		return nil
	case <-ctx.Done():
		return contextError(ctx)
	case <-m.ctx.Done():
		return ErrStopped
	case <-timeout.C:
		return ErrTooManyRequests
	}
}

// endTurn is called when the outcome is known, or nothing was proposed.
func (w *waiter) endTurn() {
	if w.turn != nil {
		<-w.turn
		w.turn = nil
	}
}

// agree has a client's request agreed and applied.
func (m *Member) agree(ctx context.Context, kind fsm.Kind, msg proto.Message) (any, error) {
	v := m.View()
	origin, w := m.origin(ctx), weigh(v.KV, msg)
	if origin.User != "" {
		w.keys += weighRights(v, origin.User, msg)
	}
	if w.bytes > maxKept {
		return nil, ErrRequestTooLarge
	}
	return m.proposer.await(ctx, w, func(dst []byte) ([]byte, error) {
		return fsm.AppendRequest(dst, kind, origin, msg)
	})
}
