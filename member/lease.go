package member

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// maxLeaseTTL bounds TTLs, in seconds, as in etcd.
const maxLeaseTTL = 9_000_000_000

// LeaseGrant makes a lease. Without an id it gets a random one; a TTL below the
// least one is raised to it. It is answered when whoever leads next keeps to it;
// the TTL of the answer is less than the granted one if that took long.
func (m *Member) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if r.TTL > maxLeaseTTL {
		return nil, ErrLeaseTooLong
	}
	chosen := r.ID == 0
	r.TTL = max(r.TTL, m.minLeaseTTL())
	for {
		for chosen && r.ID == 0 {
			r.ID = rand.Int64()
		}
		resp, err := write[*pb.LeaseGrantResponse](ctx, m, fsm.KindLeaseGrant, r)
		if chosen && errors.Is(err, kv.ErrLeaseExists) {
			r.ID = 0
			continue
		}
		if err != nil {
			return nil, err
		}
		if resp.TTL, err = m.coverGrant(ctx, resp.ID); err != nil {
			return nil, err
		}
		m.fill(resp.Header)
		return resp, nil
	}
}

// minLeaseTTL is one and a half election timeouts, in whole seconds: a lease
// that ends while a leader is elected would serve nobody.
func (m *Member) minLeaseTTL() int64 {
	election := m.cfg.ElectionTimeout
	if election == 0 {
		election = time.Second
	}
	return int64((3*election/2 + time.Second - 1) / time.Second)
}

// LeaseRevoke ends a lease and deletes its keys in one revision.
func (m *Member) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	resp, err := write[*pb.LeaseRevokeResponse](ctx, m, fsm.KindLeaseRevoke, r)
	if err != nil {
		return nil, err
	}
	m.fill(resp.Header)
	return resp, nil
}

// LeaseRenew gives a lease its whole TTL again; TTL 0 stands for a lease that
// there is not. The header has the revision of before.
func (m *Member) LeaseRenew(ctx context.Context, id int64) (*pb.LeaseKeepAliveResponse, error) {
	if m.View().Auth.Enabled() {
		if err := m.Authorize(ctx, pb.Lease_LeaseKeepAlive_FullMethodName, &pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			return nil, err
		}
	}
	return m.BeginLeaseRenew(ctx, id)()
}

// BeginLeaseRenew begins LeaseRenew without asking who may, and without waiting:
// what it returns waits for the answer. Those of a follower are one call to the
// leader, and need no goroutine each. The renewal ends with ctx.
func (m *Member) BeginLeaseRenew(ctx context.Context, id int64) (wait func() (*pb.LeaseKeepAliveResponse, error)) {
	resp := &pb.LeaseKeepAliveResponse{Header: m.Header(m.View().KV.Rev()), ID: id}
	ttl, _, all, err := m.lessor.prolong(id)
	if all == nil && err == nil {
		resp.TTL = ttl
		return func() (*pb.LeaseKeepAliveResponse, error) { return resp, nil }
	}
	r := m.renewals.begin(ctx, id)
	return func() (*pb.LeaseKeepAliveResponse, error) {
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, m.leaderless(contextError(ctx))
		}
		if r.err != nil && !errors.Is(r.err, kv.ErrLeaseNotFound) {
			return nil, r.err
		}
		resp.TTL = r.ttl
		return resp, nil
	}
}

// LeaseTimeToLive tells how long a lease has, -1 for one that there is not.
func (m *Member) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	if err := m.linearize(ctx); err != nil {
		return nil, m.leaderless(err)
	}
	state := m.View()
	if err := allowed(ctx, state, pb.Lease_LeaseTimeToLive_FullMethodName, r); err != nil {
		return nil, err
	}
	view := state.KV
	resp := &pb.LeaseTimeToLiveResponse{Header: m.Header(view.Rev()), ID: r.ID, TTL: -1}
	if _, found := view.Lease(r.ID); !found {
		return resp, nil
	}
	left, granted, err := m.askTTL(ctx, r.ID)
	switch {
	case errors.Is(err, kv.ErrLeaseNotFound), err == nil && left < 0:
		return resp, nil
	case err != nil:
		return nil, err
	}
	resp.TTL, resp.GrantedTTL = left, granted
	if r.Keys {
		resp.Keys = view.LeaseKeys(r.ID)
	}
	return resp, nil
}

// LeaseLeases lists the leases that this member knows, the first to end first.
func (m *Member) LeaseLeases(ctx context.Context) (*pb.LeaseLeasesResponse, error) {
	r := &pb.LeaseLeasesRequest{}
	if err := m.Authorize(ctx, pb.Lease_LeaseLeases_FullMethodName, r); err != nil {
		return nil, err
	}
	state := m.View()
	if err := allowed(ctx, state, pb.Lease_LeaseLeases_FullMethodName, r); err != nil {
		return nil, err
	}
	view := state.KV
	all := make([]kv.Lease, 0, view.LeaseCount())
	view.Leases(func(l kv.Lease) bool {
		all = append(all, l)
		return true
	})
	slices.SortFunc(all, func(a, b kv.Lease) int {
		return cmp.Or(cmp.Compare(a.Deadline, b.Deadline), cmp.Compare(a.ID, b.ID))
	})
	resp := &pb.LeaseLeasesResponse{Header: m.Header(view.Rev())}
	for _, l := range all {
		resp.Leases = append(resp.Leases, &pb.LeaseStatus{ID: l.ID})
	}
	return resp, nil
}
