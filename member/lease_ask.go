package member

import (
	"context"
	"errors"
	"time"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore"
)

// askAbout asks whoever leads about a lease, until there is an answer. That
// there is no such lease is believed when this member's own state says so too:
// the leader, which applies what its own disk has, may come to a grant after the
// member that has answered it.
func (m *Member) askAbout(ctx context.Context, id int64, ask func(ctx context.Context, leader uint64) error) error {
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	for {
		err := m.askLeader(ctx, ask)
		if !errors.Is(err, kv.ErrLeaseNotFound) {
			return err
		}
		if err := m.linearize(ctx); err != nil {
			return m.leaderless(err)
		}
		if _, found := m.View().KV.Lease(id); !found {
			return kv.ErrLeaseNotFound
		}
		if !m.pause(retryPropose) {
			return ErrStopped
		}
	}
}

// askLeader asks whoever leads, until there is an answer: ask returns nil or
// kv.ErrLeaseNotFound. What is asked does no harm when it is done twice. As in
// etcd it goes on while a leader is elected, and ends with ErrNoLeader if there
// is none when the time is up.
func (m *Member) askLeader(ctx context.Context, ask func(ctx context.Context, leader uint64) error) error {
	for {
		lead, changed := m.node.Leadership()
		if lead.Leader != 0 {
			err := ask(ctx, lead.Leader)
			if err == nil || errors.Is(err, kv.ErrLeaseNotFound) || errors.Is(err, ErrTooManyRequests) {
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
		case ctx.Err() != nil:
			return m.leaderless(contextError(ctx))
		}
	}
}

// callLeader calls a member as long as it leads. One that stands still, or cannot
// be reached, gives no answer, and another one may lead long before the time is
// up: leases must not wait for that.
func (m *Member) callLeader(ctx context.Context, leader uint64, kind raftstore.Kind, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	defer func() { cancel(); <-watched }()
	go func() {
		defer close(watched)
		defer cancel()
		for {
			lead, changed := m.node.Leadership()
			if lead.Leader != leader {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return m.mesh.Call(ctx, leader, kind, payload)
}

// leaderless is err, or ErrNoLeader where time ran out without a leader.
func (m *Member) leaderless(err error) error {
	if (errors.Is(err, ErrTimeout) || errors.Is(err, ErrTimeoutLeaderFail)) && m.Leader() == 0 {
		return ErrNoLeader
	}
	return err
}

// bounded is ctx with the time that a request may take.
func (m *Member) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, m.cfg.RequestTimeout)
}

// renewSlowly renews a lease where that takes others, or time.
func (m *Member) renewSlowly(ctx context.Context, id int64) (ttl int64, err error) {
	err = m.askAbout(ctx, id, func(ctx context.Context, leader uint64) (err error) {
		if leader == m.cfg.ID {
			ttl, err = m.lessor.awaitRenewal(ctx, id, m.lessor.time())
		} else {
			ttl, err = m.renewals.renew(ctx, leader, id)
		}
		return err
	})
	return ttl, err
}

// coverGrant waits until whoever leads next keeps to what was granted, and
// returns how many seconds of it are left. Mostly the grant itself says so; when
// the agreed clock is late, as on a slow disk, it takes another entry.
func (m *Member) coverGrant(ctx context.Context, id int64) (left int64, err error) {
	err = m.askAbout(ctx, id, func(ctx context.Context, leader uint64) (err error) {
		if leader == m.cfg.ID {
			left, err = m.lessor.awaitCover(ctx, id)
		} else {
			left, _, err = m.remoteTTL(ctx, leader, id, ttlCovered)
		}
		return err
	})
	return left, err
}

// askTTL asks for the seconds that a lease has, -1 if its end has come, and its
// TTL.
func (m *Member) askTTL(ctx context.Context, id int64) (left, ttl int64, err error) {
	err = m.askAbout(ctx, id, func(ctx context.Context, leader uint64) (err error) {
		if leader == m.cfg.ID {
			left, ttl, err = m.lessor.remaining(id)
		} else {
			left, ttl, err = m.remoteTTL(ctx, leader, id, ttlNow)
		}
		return err
	})
	return left, ttl, err
}

// What a KindLeaseTTL call may ask for, beside the id.
const (
	ttlNow     = 0 // how long the lease has
	ttlCovered = 1 // the same of one just granted, when the next leader keeps to it
)

// remoteTTL asks the leader how long a lease has, and its TTL, which is not told
// with ttlCovered.
func (m *Member) remoteTTL(ctx context.Context, leader uint64, id, what int64) (left, ttl int64, err error) {
	answer, err := m.callLeader(ctx, leader, raftstore.KindLeaseTTL, appendIDs(nil, id, what))
	if refused, ok := errors.AsType[*raftstore.CallError](err); ok && refused.Code == codeNoLease {
		return 0, 0, kv.ErrLeaseNotFound
	}
	if err != nil {
		return 0, 0, err
	}
	got, err := decodeIDs(answer)
	if err != nil || len(got) != 2 {
		return 0, 0, errMalformed
	}
	return got[0], got[1], nil
}

// codeNoLease is the code of an answer about a lease that there is not.
const codeNoLease = 2

// answerTTL answers a peer.
func (m *Member) answerTTL(ctx context.Context, _ uint64, payload []byte) ([]byte, error) {
	ids, err := decodeIDs(payload)
	if err != nil || len(ids) != 2 {
		return nil, errMalformed
	}
	var left, ttl int64
	if ids[1] == ttlCovered {
		ctx, cancel := m.bounded(ctx)
		defer cancel()
		left, err = m.lessor.awaitCover(ctx, ids[0])
	} else {
		left, ttl, err = m.lessor.remaining(ids[0])
	}
	switch {
	case errors.Is(err, kv.ErrLeaseNotFound):
		return nil, &raftstore.CallError{Code: codeNoLease, Text: err.Error()}
	case err != nil:
		return nil, &raftstore.CallError{Code: codeNotLeader, Text: err.Error()}
	}
	return appendIDs(nil, left, ttl), nil
}
