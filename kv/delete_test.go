package kv

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Ranges of many nodes are deleted, and many keys detached from leases, in one
// go; what the views before see stays.
func TestBatch_deleteLongRanges(t *testing.T) {
	const keys = 5000
	key := func(i int) string { return fmt.Sprintf("k%05d", i) }
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		f := newFixture(t, Options{})
		f.grant(1, 10)
		f.grant(2, 10)
		lease := map[string]int64{}
		for i := 0; i < keys; i += 500 {
			f.batch(func(b *Batch) {
				for j := range 500 {
					k := key((i + j) * 7919 % keys)
					lease[k] = rnd.Int64N(3)
					if _, err := b.Put(&pb.PutRequest{Key: []byte(k), Lease: lease[k]}, None); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
		for range 20 {
			lo := rnd.IntN(keys)
			hi := lo + rnd.IntN(keys-lo+1)
			before := f.s.View()
			n := before.Len()
			gone := 0
			for i := lo; i < hi; i++ {
				if _, there := lease[key(i)]; there {
					gone++
					delete(lease, key(i))
				}
			}
			v := f.del(key(lo), key(hi))
			if before.Len() != n || v.Len() != n-gone || len(f.queue[len(f.queue)-1].recs) != gone {
				t.Fatalf("%d keys and %d before, want %d and %d", v.Len(), before.Len(), n-gone, n)
			}
			wantAttached(t, v)
			wantAttached(t, before)
			for range 200 {
				i := rnd.IntN(keys)
				lease[key(i)] = 1
				f.let(1, key(i))
			}
		}
		rev := f.s.View().Rev()
		n := len(f.s.View().LeaseKeys(1))
		v := f.batch(func(b *Batch) {
			if err := b.Revoke(1); err != nil {
				t.Fatal(err)
			}
		})
		recs := f.queue[len(f.queue)-1].recs
		if v.Rev() != rev+1 || len(recs) != n || !slices.IsSortedFunc(recs, func(a, b change) int {
			return bytes.Compare(encodedKey(a.enc), encodedKey(b.enc))
		}) {
			t.Fatalf("%d records at revision %d, want %d at %d, in order", len(recs), v.Rev(), n, rev+1)
		}
		wantAttached(t, v)
		f.settle()
		f.open()
		wantAttached(t, f.s.View())
		f.compact(f.s.View().Rev())
		f.settle()
	}
}

// compareAll is a compare with all keys that each of them satisfies.
func compareAll(target pb.Compare_CompareTarget) *pb.Compare {
	c := &pb.Compare{Key: []byte{0}, RangeEnd: []byte{0}, Target: target, Result: pb.Compare_NOT_EQUAL, TargetUnion: &pb.Compare_Version{}}
	if target == pb.Compare_VALUE {
		c.TargetUnion = &pb.Compare_Value{Value: []byte("none")}
	}
	return c
}

// Compares of one transaction look at so many keys and no more, however they are
// spread over nested ones; deletions in between are not counted, because members
// forget them at different times.
func TestBatch_comparesAreBounded(t *testing.T) {
	const keys = 1 << 10
	f := newFixture(t, Options{})
	for i := 0; i < 2*keys; i += 256 {
		f.batch(func(b *Batch) {
			for j := range 256 {
				if _, err := b.Put(&pb.PutRequest{Key: fmt.Appendf(nil, "k%05d", i+j)}, None); err != nil {
					t.Fatal(err)
				}
				if j%2 == 1 {
					if _, err := b.DeleteRange(&pb.DeleteRangeRequest{Key: fmt.Appendf(nil, "k%05d", i+j)}, None); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
	nested := func(n int, c *pb.Compare) *pb.TxnRequest {
		r := &pb.TxnRequest{}
		for range n {
			r.Success = append(r.Success, opTxn(&pb.TxnRequest{Compare: []*pb.Compare{c}}))
		}
		return r
	}
	perKey, perValue := MaxCompared/keys, MaxCompared/keys/valueWeight
	for name, c := range map[string]struct {
		r    *pb.TxnRequest
		want error
	}{
		"as many as may be":   {nested(perKey, compareAll(pb.Compare_MOD)), nil},
		"one more":            {nested(perKey+1, compareAll(pb.Compare_MOD)), ErrTooManyCompares},
		"values":              {nested(perValue, compareAll(pb.Compare_VALUE)), nil},
		"one more value":      {nested(perValue+1, compareAll(pb.Compare_VALUE)), ErrTooManyCompares},
		"failing at once":     {nested(keys, &pb.Compare{Key: []byte{0}, RangeEnd: []byte{0}, Target: pb.Compare_CREATE}), nil},
		"in a write, too":     {&pb.TxnRequest{Compare: slices.Repeat([]*pb.Compare{compareAll(pb.Compare_MOD)}, perKey+1), Success: []*pb.RequestOp{opPut("x", "")}}, ErrTooManyCompares},
		"of no keys, but all": {nested(keys, &pb.Compare{Key: []byte("l"), RangeEnd: []byte{0}, Target: pb.Compare_CREATE}), nil},
	} {
		rev := f.s.View().Rev()
		v := f.batch(func(b *Batch) {
			if _, err := b.Txn(c.r, None); !errors.Is(err, c.want) || c.want != nil && !IsAnswer(err) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		})
		if v.Rev() != rev {
			t.Errorf("%s: revision %d after %d", name, v.Rev(), rev)
		}
	}
	if _, err := f.s.View().ReadTxn(&pb.TxnRequest{Compare: slices.Repeat([]*pb.Compare{compareAll(pb.Compare_MOD)}, perKey+1)}, nil); !errors.Is(err, ErrTooManyCompares) {
		t.Errorf("a transaction that reads: %v", err)
	}
}
