package fsm

import (
	"cmp"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/kv"
)

// ErrDeposed: what a leader said about leases came to be applied in another
// leader's term, and has no effect.
var ErrDeposed = errors.New("a leader of another term said so")

// applyLeases applies a request that concerns leases.
func (m *Machine) applyLeases(index uint64, req *request) Result {
	barred := m.alarms.barred(req.kind, nil)
	m.beginBatch()
	switch req.kind {
	case KindLeaseGrant:
		var r pb.LeaseGrantRequest
		m.decode(index, req.body, &r)
		if err := cmp.Or(m.authorize(pb.Lease_LeaseGrant_FullMethodName, req, &r), barred); err != nil {
			return Result{Err: err}
		}
		if err := m.batch.Grant(r.ID, r.TTL); err != nil {
			return Result{Err: err}
		}
		return Result{Response: &pb.LeaseGrantResponse{Header: m.revision(), ID: r.ID, TTL: r.TTL}}
	case KindLeaseRevoke:
		var r pb.LeaseRevokeRequest
		m.decode(index, req.body, &r)
		if err := cmp.Or(m.authorize(pb.Lease_LeaseRevoke_FullMethodName, req, &r), barred); err != nil {
			return Result{Err: err}
		}
		if err := m.batch.Revoke(r.ID); err != nil {
			return Result{Err: err}
		}
		return Result{Response: &pb.LeaseRevokeResponse{Header: m.revision()}}
	case KindLeaseClock:
		var r conclavepb.LeaseClock
		m.decode(index, req.body, &r)
		if r.Term != m.at.term {
			return Result{Err: ErrDeposed}
		}
		m.batch.AdvanceLeases(r.Clock, r.Renewed)
	default:
		var r conclavepb.LeaseExpire
		m.decode(index, req.body, &r)
		switch {
		case barred != nil:
			return Result{Err: barred}
		case r.Term != m.at.term:
			return Result{Err: ErrDeposed}
		}
		for _, id := range r.Ids {
			if err := m.batch.Revoke(id); err != nil && !errors.Is(err, kv.ErrLeaseNotFound) {
				m.fatal(index, err)
			}
		}
	}
	return Result{}
}

func (m *Machine) revision() *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: m.batch.Rev()}
}
