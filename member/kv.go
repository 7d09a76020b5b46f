package member

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// Range reads keys: linearizable unless the request says serializable, which
// is answered from this member's own state at once.
func (m *Member) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := m.await(ctx, r.Serializable); err != nil {
		return nil, err
	}
	resp, err := readWithin(ctx, m, func(v *fsm.View, room *kv.Room) (*pb.RangeResponse, error) {
		if err := allowed(ctx, v, pb.KV_Range_FullMethodName, r); err != nil {
			return nil, err
		}
		return v.KV.RangeWithin(r, room)
	})
	if err != nil {
		return nil, err
	}
	m.fill(resp.Header)
	return resp, nil
}

// Put writes one key.
func (m *Member) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	resp, err := write[*pb.PutResponse](ctx, m, fsm.KindPut, r)
	if err != nil {
		return nil, err
	}
	m.fill(resp.Header)
	return resp, nil
}

// DeleteRange deletes keys.
func (m *Member) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	resp, err := write[*pb.DeleteRangeResponse](ctx, m, fsm.KindDeleteRange, r)
	if err != nil {
		return nil, err
	}
	m.fill(resp.Header)
	return resp, nil
}

// Txn runs a transaction. One that only reads goes without the log; it is
// serializable only if all its reads are.
func (m *Member) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	readOnly, serializable := readsOnly(r)
	if !readOnly {
		resp, err := write[*pb.TxnResponse](ctx, m, fsm.KindTxn, r)
		if err != nil {
			return nil, err
		}
		m.fill(resp.Header)
		return resp, nil
	}
	if err := m.await(ctx, serializable); err != nil {
		return nil, err
	}
	resp, err := readWithin(ctx, m, func(v *fsm.View, room *kv.Room) (*pb.TxnResponse, error) {
		if err := allowed(ctx, v, pb.KV_Txn_FullMethodName, r); err != nil {
			return nil, err
		}
		return v.KV.ReadTxn(r, room)
	})
	if err != nil {
		return nil, err
	}
	m.fill(resp.Header)
	return resp, nil
}

// Compact forgets the history before a revision: at once for readers, and with
// Physical it returns when the state file of this member has forgotten it too.
func (m *Member) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	resp, err := write[*pb.CompactionResponse](ctx, m, fsm.KindCompact, r)
	if err != nil {
		return nil, err
	}
	if r.Physical {
		err := m.committer.await(ctx, func() bool { return m.machine.CompactedOnDisk() >= r.Revision })
		if err != nil {
			return nil, err
		}
	}
	m.fill(resp.Header)
	return resp, nil
}

// readsOnly reports whether a transaction can be answered without the log, and
// whether all its reads are serializable.
func readsOnly(r *pb.TxnRequest) (readOnly, serializable bool) {
	serializable = true
	for _, ops := range [2][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			read := op.GetRequestRange()
			if read == nil {
				return false, false
			}
			serializable = serializable && read.Serializable
		}
	}
	return true, serializable
}

// write has a request agreed and applied, and returns its response.
func write[T any](ctx context.Context, m *Member, kind fsm.Kind, msg proto.Message) (T, error) {
	var none T
	if m.cfg.MaxRequestBytes > 0 && proto.Size(msg) > m.cfg.MaxRequestBytes {
		return none, ErrRequestTooLarge
	}
	if err := m.admit(ctx, kind, msg); err != nil {
		return none, err
	}
	if err := m.space.admit(ctx, msg); err != nil {
		return none, err
	}
	resp, err := m.agree(ctx, kind, msg)
	if err != nil {
		return none, err
	}
	return resp.(T), nil
}

// pay reads what was left out of an answer while it was applied.
func (m *Member) pay(ctx context.Context, o *kv.Owed) error {
	defer m.committer.kick() // compactions may have waited for it
	defer o.Drop()
	err := answerWithin(ctx, m, o.Pay)
	// An install took the place of what was to be read. Or there is no room, and that
	// would say that nothing was proposed, when it is applied.
	if errors.Is(err, kv.ErrClosed) || errors.Is(err, ErrTooManyRequests) {
		return ErrTimeout
	}
	return err
}

// read answers from the newest view, on which it also is authorized. Where an
// install closed the file of that view meanwhile, or a compaction took from it what
// was to be read, there is a newer one. A revision that was asked for is compacted in
// that one too.
func read[T any](m *Member, answer func(*fsm.View) (T, error)) (T, error) {
	for {
		v := m.View()
		resp, err := answer(v)
		closed := errors.Is(err, kv.ErrClosed) && m.View().KV != v.KV
		compacted := errors.Is(err, kv.ErrCompacted) && m.View().KV.CompactRev() != v.KV.CompactRev()
		if !closed && !compacted {
			return resp, err
		}
	}
}

// readWithin is read with a bound on the memory of the answer.
func readWithin[T any](ctx context.Context, m *Member, answer func(*fsm.View, *kv.Room) (T, error)) (resp T, err error) {
	err = answerWithin(ctx, m, func(room *kv.Room) error {
		resp, err = read(m, func(v *fsm.View) (T, error) { return answer(v, room) })
		return err
	})
	return resp, err
}

// await returns when a read can be answered from this member's own state.
func (m *Member) await(ctx context.Context, serializable bool) error {
	if serializable {
		return m.inTouch(ctx)
	}
	return m.linearize(ctx)
}

// linearize returns when this member's state holds everything acknowledged
// anywhere before the call. It ends without a leader, too: a client that sets no
// deadline has to learn that it should ask another member.
func (m *Member) linearize(ctx context.Context) error {
	err := m.node.ReadIndex(ctx)
	switch {
	case err == nil:
		return nil
	case m.ctx.Err() != nil:
		return ErrStopped
	case ctx.Err() != nil:
		return contextError(ctx)
	default:
		return m.timeoutError()
	}
}

// fill completes a response header, of which the engine set the revision.
func (m *Member) fill(h *pb.ResponseHeader) {
	h.ClusterId, h.MemberId, h.RaftTerm = m.cfg.ClusterID, m.cfg.ID, m.node.Term()
}
