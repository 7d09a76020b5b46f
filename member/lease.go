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
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// maxLeaseTTL bounds TTLs, in seconds, as in etcd.
const maxLeaseTTL = 9_000_000_000

// LeaseGrant makes a lease. Without an id it gets a random one; a TTL below the
// least one is raised to it.
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
	resp := &pb.LeaseKeepAliveResponse{Header: m.Header(m.View().KV.Rev()), ID: id}
	ttl, _, all, err := m.lessor.prolong(id)
	if all != nil || err != nil {
		ttl, err = m.renewSlowly(ctx, id)
	}
	if err != nil && !errors.Is(err, kv.ErrLeaseNotFound) {
		return nil, err
	}
	resp.TTL = ttl
	return resp, nil
}

// renewSlowly renews a lease where that takes others, or time. That there is no
// such lease is believed when this member's own state says so too: the leader,
// which applies what its own disk has, may come to a grant after the member that
// has answered it.
func (m *Member) renewSlowly(ctx context.Context, id int64) (ttl int64, err error) {
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	for {
		ttl, err = m.askRenewal(ctx, id)
		if !errors.Is(err, kv.ErrLeaseNotFound) {
			return ttl, err
		}
		if err := m.linearize(ctx); err != nil {
			return 0, err
		}
		if _, found := m.View().KV.Lease(id); !found {
			return 0, kv.ErrLeaseNotFound
		}
		if !m.pause(retryPropose) {
			return 0, ErrStopped
		}
	}
}

// askRenewal asks the leader once it is known.
func (m *Member) askRenewal(ctx context.Context, id int64) (ttl int64, err error) {
	err = m.askLeader(ctx, func(ctx context.Context, leader uint64) (err error) {
		if leader == m.cfg.ID {
			ttl, err = m.lessor.await(ctx, id)
		} else {
			ttl, err = m.renewals.renew(ctx, leader, id)
		}
		return err
	})
	return ttl, err
}

// askLeader asks whoever leads, until there is an answer: ask returns nil or
// kv.ErrLeaseNotFound. What is asked does no harm when it is done twice.
func (m *Member) askLeader(ctx context.Context, ask func(ctx context.Context, leader uint64) error) error {
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	for {
		lead, changed := m.node.Leadership()
		if lead.Leader != 0 {
			err := ask(ctx, lead.Leader)
			if err == nil || errors.Is(err, kv.ErrLeaseNotFound) {
				return err
			}
		}
		pause := time.NewTimer(retryPropose)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
		case <-m.ctx.Done():
		}
		pause.Stop()
		switch {
		case m.ctx.Err() != nil:
			return ErrStopped
		case errors.Is(ctx.Err(), context.Canceled):
			return ctx.Err()
		case ctx.Err() != nil:
			return m.timeoutError()
		}
	}
}

// bounded is ctx with the time that a request may take.
func (m *Member) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, m.cfg.RequestTimeout)
}

// LeaseTimeToLive tells how long a lease has, -1 for one that there is not.
func (m *Member) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if err := m.linearize(ctx); err != nil {
		return nil, err
	}
	view := m.View().KV
	resp := &pb.LeaseTimeToLiveResponse{Header: m.Header(view.Rev()), ID: r.ID, TTL: -1}
	if _, found := view.Lease(r.ID); !found {
		return resp, nil
	}
	err := m.askLeader(ctx, func(ctx context.Context, leader uint64) (err error) {
		if leader == m.cfg.ID {
			resp.TTL, resp.GrantedTTL, err = m.lessor.remaining(r.ID)
		} else {
			resp.TTL, resp.GrantedTTL, err = m.remoteTTL(ctx, leader, r.ID)
		}
		if _, found := m.View().KV.Lease(r.ID); found && err == nil && resp.GrantedTTL == 0 {
			return errNotLessor // the leader comes to the grant later than this member; see renewSlowly
		}
		return err
	})
	switch {
	case errors.Is(err, ErrTimeoutLeaderFail):
		return nil, ErrLeaderChanged
	case err != nil:
		return nil, err
	case resp.TTL < 0:
		resp.GrantedTTL = 0
	case r.Keys:
		resp.Keys = view.LeaseKeys(r.ID)
	}
	return resp, nil
}

// LeaseLeases lists the leases that this member knows, the first to end first.
func (m *Member) LeaseLeases(context.Context) (*pb.LeaseLeasesResponse, error) {
	view := m.View().KV
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

// remoteTTL is lessor.remaining of another member.
func (m *Member) remoteTTL(ctx context.Context, leader uint64, id int64) (left, ttl int64, err error) {
	answer, err := m.mesh.Call(ctx, leader, raftstore.KindLeaseTTL, appendIDs(nil, id))
	if err != nil {
		return 0, 0, err
	}
	got, err := decodeIDs(answer)
	if err != nil || len(got) != 2 {
		return 0, 0, errMalformed
	}
	return got[0], got[1], nil
}

// answerTTL answers a peer.
func (m *Member) answerTTL(ctx context.Context, _ uint64, payload []byte) ([]byte, error) {
	ids, err := decodeIDs(payload)
	if err != nil || len(ids) != 1 {
		return nil, errMalformed
	}
	left, ttl, err := m.lessor.remaining(ids[0])
	if err != nil {
		return nil, &raftstore.CallError{Code: codeNotLeader, Text: err.Error()}
	}
	return appendIDs(nil, left, ttl), nil
}
