package member

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// RangeStream gives the answer to r, which asks for the order of keys and no
// minimum or maximum revision, to send in parts, with one linearizable wait
// before the first. While send blocks nothing is held
// but the part it was given. The first error of send ends it.
func (m *Member) RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*pb.RangeResponse) error) error {
	if err := m.await(ctx, r.Serializable); err != nil {
		return err
	}
	scan := kv.NewScan(r, m.cfg.MaxRequestBytes/streamParts)
	for {
		last, err := m.sendPart(ctx, r, scan, send)
		if err != nil || last {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// streamParts is how many parts of a stream have the size of the largest
// request: small enough that a client reads one while the next is made, and
// that a thousand clients who read nothing take little.
const streamParts = 4

// sendPart reads and sends one part, if r is still allowed. It returns with nothing of it on the stack
// of its caller.
func (m *Member) sendPart(ctx context.Context, r *pb.RangeRequest, scan *kv.Scan, send func(*pb.RangeResponse) error) (last bool, err error) {
	part, err := read(m, func(v *fsm.View) (resp *pb.RangeResponse, err error) {
		if err := allowed(ctx, v, pb.KV_RangeStream_FullMethodName, r); err != nil {
			return nil, err
		}
		resp, last, err = scan.Next(v.KV)
		return resp, err
	})
	if err != nil {
		return false, err
	}
	if part.Header != nil {
		m.fill(part.Header)
	}
	return last, send(part)
}
