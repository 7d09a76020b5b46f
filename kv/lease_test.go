package kv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (f *fixture) grant(id, ttl int64) {
	f.t.Helper()
	f.batch(func(b *Batch) {
		if err := b.Grant(id, ttl); err != nil {
			f.t.Fatal(err)
		}
	})
}

// let puts keys with a lease.
func (f *fixture) let(id int64, keys ...string) {
	f.t.Helper()
	f.batch(func(b *Batch) {
		for _, key := range keys {
			if _, err := b.Put(&pb.PutRequest{Key: []byte(key), Lease: id}, None); err != nil {
				f.t.Fatal(err)
			}
		}
	})
}

func (f *fixture) wantKeys(id int64, want ...string) {
	f.t.Helper()
	var got []string
	for _, k := range f.s.View().LeaseKeys(id) {
		got = append(got, string(k))
	}
	if !slices.Equal(got, want) {
		f.t.Errorf("lease %d has the keys %q, want %q", id, got, want)
	}
}

func TestLease_attachedKeys(t *testing.T) {
	f := newFixture(t, Options{})
	f.grant(1, 10)
	f.grant(2, 10)
	f.let(1, "c", "a", "b", "d")
	f.wantKeys(1, "a", "b", "c", "d")
	f.let(2, "b") // moves
	var all []string
	f.s.View().EachAttachedKey(func(key []byte) bool {
		all = append(all, string(key))
		return len(all) < 3
	})
	if !slices.Equal(all, []string{"a", "c", "d"}) {
		t.Errorf("the first three attached keys: %q", all)
	}
	f.put("c", "x") // detaches
	f.del("d", "")
	f.batch(func(b *Batch) {
		if _, err := b.Put(&pb.PutRequest{Key: []byte("a"), IgnoreLease: true, Value: []byte("v")}, None); err != nil {
			t.Fatal(err)
		}
	})
	f.wantKeys(1, "a")
	f.wantKeys(2, "b")
	f.settle()
	f.open()
	f.wantKeys(1, "a")
	f.wantKeys(2, "b")
}

func TestLease_revokeIsOneRevision(t *testing.T) {
	f := newFixture(t, Options{})
	f.grant(7, 10)
	f.let(7, "z", "a", "m")
	before := f.s.View().Rev()
	v := f.batch(func(b *Batch) {
		if err := b.Revoke(7); err != nil {
			t.Fatal(err)
		}
		if err := b.Revoke(7); !errors.Is(err, ErrLeaseNotFound) {
			t.Errorf("a second revocation: %v", err)
		}
	})
	if v.Rev() != before+1 || v.Len() != 0 || v.LeaseCount() != 0 {
		t.Errorf("revision %d after %d, %d keys, %d leases", v.Rev(), before, v.Len(), v.LeaseCount())
	}
	var order []string
	for _, rec := range f.queue[len(f.queue)-1].recs {
		order = append(order, string(encodedKey(rec.enc)))
	}
	if want := []string{"a", "m", "z"}; !slices.Equal(order, want) {
		t.Errorf("deleted in the order %q", order)
	}
	f.grant(8, 10)
	if v := f.batch(func(b *Batch) { _ = b.Revoke(8) }); v.Rev() != before+1 {
		t.Errorf("revoking a lease without keys made revision %d", v.Rev())
	}
}

func TestLease_badIDs(t *testing.T) {
	f := newFixture(t, Options{})
	f.grant(-1, 10) // the last one as an unsigned number
	f.let(-1, "k")
	f.batch(func(b *Batch) {
		if err := b.Grant(-1, 5); !errors.Is(err, ErrLeaseExists) {
			t.Errorf("a second grant: %v", err)
		}
		if _, err := b.Put(&pb.PutRequest{Key: []byte("k"), Lease: 3}, None); !errors.Is(err, ErrLeaseNotFound) {
			t.Errorf("a put with an unknown lease: %v", err)
		}
		r := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), Lease: 3}}}}}
		if _, err := b.Txn(r, None); !errors.Is(err, ErrLeaseNotFound) {
			t.Errorf("a transaction with an unknown lease: %v", err)
		}
	})
	f.wantKeys(-1, "k")
}

func TestLease_clockOnlyAdvances(t *testing.T) {
	f := newFixture(t, Options{})
	f.batch(func(b *Batch) { b.AdvanceLeases(5000, nil) })
	f.grant(1, 10)
	f.grant(2, 10)
	f.batch(func(b *Batch) { b.AdvanceLeases(8000, []int64{2, 99}) })
	f.batch(func(b *Batch) { b.AdvanceLeases(6000, []int64{1}) })
	check := func() {
		t.Helper()
		v := f.s.View()
		one, _ := v.Lease(1)
		two, _ := v.Lease(2)
		if v.LeaseClock() != 8000 || one.Deadline != 18000 || two.Deadline != 18000 || one.TTL != 10 {
			t.Errorf("clock %d, leases %+v %+v", v.LeaseClock(), one, two)
		}
	}
	check()
	f.settle()
	f.open()
	check()
}

// etcd's records have no deadline of ours: {1 ID 2 TTL 3 RemainingTTL}.
func TestLease_recordsOfEtcd(t *testing.T) {
	f := newFixture(t, Options{})
	f.batch(func(b *Batch) { b.AdvanceLeases(1000, nil) })
	f.flushAll()
	err := f.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketLease)
		if err != nil {
			return err
		}
		return errors.Join(
			bucket.Put(leaseKey(5), []byte{1 << 3, 5, 2 << 3, 60}),
			bucket.Put(leaseKey(6), []byte{1 << 3, 6, 2 << 3, 60, 3 << 3, 20}))
	})
	if err != nil {
		t.Fatal(err)
	}
	f.open()
	five, _ := f.s.View().Lease(5)
	six, _ := f.s.View().Lease(6)
	if five.Deadline != 61000 || six.Deadline != 21000 || six.TTL != 60 {
		t.Errorf("loaded %+v and %+v", five, six)
	}
}

func TestLease_undoneTransactionKeepsAttachments(t *testing.T) {
	f := newFixture(t, Options{})
	f.grant(1, 10)
	f.let(1, "a", "b")
	f.batch(func(b *Batch) {
		r := &pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("a")}}},
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a"), IgnoreValue: true}}},
		}}
		if _, err := b.Txn(r, None); !errors.Is(err, ErrKeyNotFound) {
			t.Fatalf("the transaction ended with %v", err)
		}
	})
	f.wantKeys(1, "a", "b")
}

// TestLease_random compares what is attached with what the keys say, through
// restarts, lost changes, compactions and old views.
func TestLease_random(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			f := newFixture(t, Options{MaxInline: 4, PruneStep: 3})
			var old *View
			var oldKeys [][]byte
			for range 400 {
				f.batch(func(b *Batch) {
					for range 1 + rnd.IntN(4) {
						randomLeaseRequest(b, rnd)
					}
				})
				switch rnd.IntN(20) {
				case 0:
					f.flushAll()
				case 1:
					f.flush(rnd.IntN(len(f.queue) + 1))
					f.open()
				case 2:
					old = f.s.View()
					oldKeys = old.LeaseKeys(1)
				}
				wantAttached(t, f.s.View())
				if old != nil && !slices.EqualFunc(old.LeaseKeys(1), oldKeys, slices.Equal[[]byte]) {
					t.Fatal("an old view changed")
				}
			}
		})
	}
}

func randomLeaseRequest(b *Batch, rnd *rand.Rand) {
	key := fmt.Appendf(nil, "k%02d", rnd.IntN(40))
	id := rnd.Int64N(5)
	put := &pb.PutRequest{Key: key, Lease: id, Value: []byte("a value"), IgnoreLease: id == 0 && rnd.IntN(2) == 0}
	drop := &pb.DeleteRangeRequest{Key: key}
	var err error
	switch rnd.IntN(12) {
	case 0:
		err = b.Grant(1+rnd.Int64N(4), 5)
	case 1:
		err = b.Revoke(1 + rnd.Int64N(4))
	case 2:
		b.AdvanceLeases(b.clock+rnd.Int64N(100)-20, []int64{1, 3})
	case 3:
		_, err = b.DeleteRange(drop, None)
	case 4:
		_, err = b.Compact(&pb.CompactionRequest{Revision: b.Rev() - rnd.Int64N(5)}, None)
	case 5, 6:
		_, err = b.Txn(&pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: drop}},
			{Request: &pb.RequestOp_RequestPut{RequestPut: put}},
		}}, None)
	default:
		_, err = b.Put(put, None)
	}
	if err != nil && !IsAnswer(err) {
		panic(err)
	}
}

// wantAttached holds the tree of leases against all keys.
func wantAttached(t *testing.T, v *View) {
	t.Helper()
	resp, err := v.Range(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[int64][]string{}
	for _, kv := range resp.Kvs {
		if kv.Lease != 0 {
			want[kv.Lease] = append(want[kv.Lease], string(kv.Key))
		}
	}
	n := 0
	v.Leases(func(l Lease) bool {
		n++
		var got []string
		for _, k := range v.LeaseKeys(l.ID) {
			got = append(got, string(k))
		}
		if !slices.Equal(got, want[l.ID]) {
			t.Fatalf("lease %d has %q, its keys are %q", l.ID, got, want[l.ID])
		}
		delete(want, l.ID)
		return true
	})
	if len(want) != 0 || n != v.LeaseCount() {
		t.Fatalf("keys of leases that there are not: %v; %d leases, counted %d", want, n, v.LeaseCount())
	}
}
