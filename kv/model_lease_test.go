package kv

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// What the model knows of leases: which there are. What is attached to one, the
// newest records of all keys say.

func (m *model) granted(id int64) bool {
	_, found := m.leases[id]
	return id == 0 || found
}

func (m *model) Grant(id, ttl int64) error {
	if _, found := m.leases[id]; found {
		return ErrLeaseExists
	}
	m.leases[id] = Lease{ID: id, TTL: ttl, Deadline: m.clock + 1000*ttl}
	return nil
}

func (m *model) attached(id int64) (keys [][]byte) {
	for _, kv := range m.at([]byte{0}, []byte{0}, m.nowRev()) {
		if kv.Lease == id {
			keys = append(keys, kv.Key)
		}
	}
	return keys
}

func (m *model) Revoke(id int64) error {
	if _, found := m.leases[id]; !found {
		return ErrLeaseNotFound
	}
	keys := m.attached(id)
	m.begin()
	for _, key := range keys {
		m.add(true, &mvccpb.KeyValue{Key: key})
	}
	m.end()
	delete(m.leases, id)
	return nil
}

func (m *model) AdvanceLeases(clock int64, renewed []int64) {
	m.clock = max(m.clock, clock)
	for _, id := range renewed {
		if l, found := m.leases[id]; found {
			l.Deadline = m.clock + 1000*l.TTL
			m.leases[id] = l
		}
	}
}

// leaseStep performs a random request about leases on the batch and on the
// model. Leases expire by the same request as they are revoked.
func (r *runner) leaseStep(b *Batch) {
	r.t.Helper()
	var got, want error
	id := r.leaseID()
	switch r.rnd.IntN(5) {
	case 0, 1:
		ttl := 1 + r.rnd.Int64N(100)
		got, want = b.Grant(id, ttl), r.m.Grant(id, ttl)
	case 2:
		got, want = b.Revoke(id), r.m.Revoke(id)
	default:
		clock, ids := r.m.clock+r.rnd.Int64N(5000)-1000, []int64{id, r.leaseID()}
		b.AdvanceLeases(clock, ids)
		r.m.AdvanceLeases(clock, ids)
	}
	r.same(nil, nil, got, nil, want)
	if b.Rev() != r.m.rev {
		r.t.Fatalf("revision %d after a request about lease %d, want %d", b.Rev(), id, r.m.rev)
	}
}

// leaseID is one of a few, the least and the greatest among them.
func (r *runner) leaseID() int64 {
	return []int64{1, 2, 3, math.MaxInt64, math.MinInt64, -1}[r.rnd.IntN(6)]
}

// sameLeases fails the test unless view and model have the same leases, with the
// same keys.
func (r *runner) sameLeases(v *View) {
	r.t.Helper()
	var got []Lease
	v.Leases(func(l Lease) bool {
		got = append(got, l)
		return true
	})
	want := slices.SortedFunc(maps.Values(r.m.leases), func(a, b Lease) int { return cmp.Compare(uint64(a.ID), uint64(b.ID)) })
	if !slices.Equal(got, want) || v.LeaseCount() != len(want) || v.LeaseClock() != r.m.clock {
		r.t.Fatalf("%d leases %+v at %d, want %+v at %d", v.LeaseCount(), got, v.LeaseClock(), want, r.m.clock)
	}
	for _, l := range want {
		keys := r.m.attached(l.ID)
		if got := v.LeaseKeys(l.ID); !slices.EqualFunc(got, keys, bytes.Equal) || v.LeaseKeyCount(l.ID) != len(keys) {
			r.t.Fatalf("lease %d has %d keys %q, want %q", l.ID, v.LeaseKeyCount(l.ID), got, keys)
		}
	}
}
