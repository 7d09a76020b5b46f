package kv

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

// listed counts the lists of renewals in the file, and the ids in them.
func (f *fixture) listed() (lists, ids int) {
	f.t.Helper()
	err := f.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketRenewals)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(_, v []byte) error {
			lists, ids = lists+1, ids+len(v)/8-1
			return nil
		})
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return lists, ids
}

func leasesOf(v *View) map[int64]Lease {
	all := map[int64]Lease{}
	v.Leases(func(l Lease) bool {
		all[l.ID] = l
		return true
	})
	return all
}

// Whatever part of the changes reached the file before a crash, leases have the
// deadlines that they had then; and what is kept of renewals does not grow.
func TestRenewals_random(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			f := newFixture(t, Options{})
			n := 1 + rnd.Int64N(50)
			after := []map[int64]Lease{{}} // the state in the file, and behind each queued batch
			for range 600 {
				v := f.batch(func(b *Batch) {
					for range 1 + rnd.IntN(3) {
						id := rnd.Int64N(n) - n/2
						switch rnd.IntN(8) {
						case 0:
							_ = b.Revoke(id)
						case 1, 2:
							_ = b.Grant(id, 1+rnd.Int64N(100))
						default:
							b.AdvanceLeases(b.clock+rnd.Int64N(2000), []int64{id, rnd.Int64N(n) - n/2})
						}
					}
				})
				after = append(after, leasesOf(v))
				switch rnd.IntN(10) {
				case 0:
					f.flushAll()
					after = after[len(after)-1:]
				case 1:
					wrote := rnd.IntN(len(f.queue) + 1)
					f.flush(wrote)
					f.open()
					if after = after[wrote : wrote+1]; !maps.Equal(leasesOf(f.s.View()), after[0]) {
						t.Fatalf("the file has the leases %v, want %v", leasesOf(f.s.View()), after[0])
					}
				}
			}
			f.flushAll()
			if _, ids := f.listed(); ids > 6*int(n) {
				t.Errorf("%d renewals are listed for at most %d leases", ids, n)
			}
		})
	}
}

// Members that group entries differently into batches have the same in their files.
func TestRenewals_alikeOnMembers(t *testing.T) {
	type request struct {
		id   int64
		kind int
	}
	rnd := rand.New(rand.NewPCG(1, 4))
	requests := make([]request, 2000)
	for i := range requests {
		requests[i] = request{rnd.Int64N(40), rnd.IntN(9)}
	}
	var files [2]map[string]string
	for i := range files {
		f := newFixture(t, Options{})
		for left := requests; len(left) > 0; {
			n := min(len(left), 1+i*rnd.IntN(20))
			f.batch(func(b *Batch) {
				for _, r := range left[:n] {
					switch r.kind {
					case 0:
						_ = b.Revoke(r.id)
					case 1, 2:
						_ = b.Grant(r.id, 10+r.id)
					default:
						b.AdvanceLeases(b.clock+r.id, []int64{r.id, 39 - r.id, 1})
					}
				}
			})
			if left = left[n:]; rnd.IntN(4) == 0 {
				f.flushAll()
			}
			if rnd.IntN(50) == 0 {
				f.flushAll()
				f.open()
			}
		}
		f.flushAll()
		files[i] = f.contents(bucketLease, bucketRenewals, bucketMeta)
	}
	if !maps.Equal(files[0], files[1]) {
		t.Errorf("one file has %x, the other %x", files[0], files[1])
	}
}

// contents are the records of buckets.
func (f *fixture) contents(buckets ...[]byte) map[string]string {
	f.t.Helper()
	all := map[string]string{}
	err := f.db.View(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			err := tx.Bucket(name).ForEach(func(k, v []byte) error {
				all[string(name)+" "+string(k)] = string(v)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}

// Renewals of leases that are all over the file change few pages of it.
func TestRenewals_fewPages(t *testing.T) {
	const leases, rounds, each = 20_000, 100, 400
	f := newFixture(t, Options{})
	rnd := rand.New(rand.NewPCG(1, 3))
	ids := make([]int64, leases)
	f.batch(func(b *Batch) {
		for i := range ids {
			ids[i] = rnd.Int64()
			if err := b.Grant(ids[i], 60); err != nil {
				t.Fatal(err)
			}
		}
	})
	f.flushAll()
	before := f.db.Stats()
	for round := range rounds {
		renewed := slices.Clone(ids[round*each%leases:][:each])
		f.batch(func(b *Batch) { b.AdvanceLeases(b.clock+1000, renewed) })
		f.flushAll()
	}
	stats := f.db.Stats()
	wrote := (stats.TxStats.GetWrite() - before.TxStats.GetWrite()) / rounds
	if wrote > each/4 {
		t.Errorf("%d renewals write %d pages", each, wrote)
	}
	if _, ids := f.listed(); ids > 3*leases {
		t.Errorf("%d renewals are listed for %d leases", ids, leases)
	}
	t.Logf("%d renewals write %d pages", each, wrote)
}
