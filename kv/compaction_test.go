package kv

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func get(t *testing.T, v *View, key string, rev int64) (string, error) {
	t.Helper()
	resp, err := v.Range(&pb.RangeRequest{Key: []byte(key), Revision: rev})
	if err != nil || len(resp.Kvs) == 0 {
		return "", err
	}
	return string(resp.Kvs[0].Value), nil
}

func hasRecord(t *testing.T, db *bbolt.DB, r revision) bool {
	t.Helper()
	found := false
	if err := db.View(func(tx *bbolt.Tx) error {
		found = tx.Bucket(bucketKey).Get(appendRevKey(nil, r)) != nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// etcd issues 18089 and 19179: a watcher that starts at the compacted revision
// still gets the deletion written there.
func TestBatch_compactKeepsDeletionAtItsRevision(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("k", "1", "k", "2", "k", "3") // 2, 3, 4
	f.del("k", "")                      // 5
	f.put("k", "4")                     // 6
	f.compact(5)
	f.settle()
	for rev, want := range map[revision]bool{{2, 0, false}: false, {4, 0, false}: false, {5, 0, true}: true, {6, 0, false}: true} {
		if got := hasRecord(t, f.db, rev); got != want {
			t.Errorf("record %v in the file: %v", rev, got)
		}
	}
	f.check()
	f.compact(6)
	f.settle()
	if hasRecord(t, f.db, revision{5, 0, true}) {
		t.Error("the deletion outlives the next compaction")
	}
}

// The same, when nothing came after the deletion: the key itself stays.
func TestBatch_compactKeepsNewestDeletion(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("k", "1")
	f.del("k", "") // 3
	f.compact(3)
	f.settle()
	if !hasRecord(t, f.db, revision{3, 0, true}) || hasRecord(t, f.db, revision{2, 0, false}) {
		t.Error("the file does not hold just the deletion")
	}
	f.open()
	f.put("other", "1")
	f.compact(4)
	f.settle()
	if hasRecord(t, f.db, revision{3, 0, true}) || f.s.View().root.get([]byte("k")) != nil {
		t.Error("the deletion outlives the next compaction")
	}
}

// etcd before 3.5.16 deletes the newest record, too, if it is a deletion.
func TestOpen_newestRecordCompacted(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("k", "1")
	f.del("k", "") // 3
	f.compact(3)
	f.settle()
	err := f.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketKey).Delete(appendRevKey(nil, revision{3, 0, true}))
	})
	if err != nil {
		t.Fatal(err)
	}
	f.open()
	if v := f.s.View(); v.Rev() != 3 || v.CompactRev() != 3 || f.s.Pruning() {
		t.Errorf("revision %d, compacted %d", v.Rev(), v.CompactRev())
	}
}

// etcd issue 17780: the newest record is a deletion, which the compaction
// takes; the revision must not go back, whenever the crash comes.
func TestOpen_revisionAfterCrashInCompaction(t *testing.T) {
	for cut := range 5 {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			f := newFixture(t, Options{PruneStep: 1})
			f.put("a", "1", "b", "1")
			f.del("a", "")
			f.del("b", "") // 5
			f.compact(5)
			for f.s.Pruning() {
				f.batch(func(*Batch) {})
			}
			f.flush(min(4+cut, len(f.queue)))
			f.open()
			if v := f.s.View(); v.Rev() != 5 || v.CompactRev() != 5 {
				t.Fatalf("revision %d, compacted %d", v.Rev(), v.CompactRev())
			}
			f.settle()
			if got := f.s.CompactedOnDisk(); got != 5 {
				t.Errorf("compacted on disk to %d", got)
			}
			f.compactFails(5, ErrCompacted)
			f.compactFails(6, ErrFutureRevision)
		})
	}
}

func (f *fixture) compactFails(rev int64, want error) {
	f.t.Helper()
	f.batch(func(b *Batch) {
		if _, err := b.Compact(&pb.CompactionRequest{Revision: rev}, Full); !errors.Is(err, want) {
			f.t.Errorf("compact %d: %v, want %v", rev, err, want)
		}
	})
}

func TestBatch_compactIsBoundedPerBatch(t *testing.T) {
	const step = 10
	f := newFixture(t, Options{PruneStep: step})
	for i := range 300 { // one key with a long history, others with a short one
		f.put("hot", fmt.Sprint(i), fmt.Sprintf("k%d", i%50), fmt.Sprint(i))
	}
	f.del("k1", "k3")
	f.put("end", "")
	f.compact(f.s.View().Rev())
	batches := 0
	for ; f.s.Pruning(); batches++ {
		b := f.s.NewBatch()
		_, c := b.Freeze()
		f.queue = append(f.queue, c)
		if len(c.drops) > step+1 {
			t.Fatalf("%d records dropped by one batch", len(c.drops))
		}
	}
	if batches < 500/step {
		t.Errorf("done after %d batches", batches)
	}
	f.flushAll()
	f.check()
	if f.s.View().root.live != f.s.View().Len() || f.s.View().Len() >= 52 {
		t.Errorf("%d keys live", f.s.View().Len())
	}
}

// A value that is not in memory leaves the file while an old view is held.
func TestView_readsWhatWasCompactedMeanwhile(t *testing.T) {
	f := newFixture(t, Options{MaxInline: -1})
	old := f.put("k", "old", "other", "same")
	f.put("k", "new")
	f.flushAll()
	if got, err := get(t, old, "k", 0); err != nil || got != "old" {
		t.Fatalf("%q, %v", got, err)
	}
	v := f.compact(4)
	f.settle()
	if _, err := get(t, old, "k", 0); !errors.Is(err, ErrCompacted) {
		t.Errorf("value of a compacted revision: %v", err)
	}
	if got, err := get(t, old, "other", 0); err != nil || got != "same" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := get(t, v, "k", 3); !errors.Is(err, ErrCompacted) {
		t.Errorf("read below the compaction: %v", err)
	}
	if got, err := get(t, v, "k", 4); err != nil || got != "new" {
		t.Errorf("read at the compaction: %q, %v", got, err)
	}
}

// Keys that come and go in ascending order must not leave nodes behind.
func TestTree_shrinksWithItsKeys(t *testing.T) {
	f := newFixture(t, Options{PruneStep: 100_000})
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for i := range rounds {
		f.batch(func(b *Batch) {
			for j := range 500 {
				b.begin()
				b.put(fmt.Appendf(nil, "%09d", i*500+j), nil, 0)
			}
		})
		if i >= 4 {
			f.del(fmt.Sprintf("%09d", (i-4)*500), fmt.Sprintf("%09d", (i-3)*500))
		}
		f.compact(f.s.View().Rev() - 1)
	}
	f.settle()
	if n := countNodes(f.s.View().root); n > 4*500/leafMax*4 {
		t.Errorf("%d nodes for %d keys", n, f.s.View().Len())
	}
}

func countNodes(n *node) int {
	sum := 1
	for _, kid := range n.kids {
		sum += countNodes(kid)
	}
	return sum
}

// Apart, batches leave what a compaction made unreachable, and Prune takes it.
func TestStore_prunesApart(t *testing.T) {
	f := newFixture(t, Options{PruneApart: true})
	f.put("k", "1", "k", "2")
	f.compact(3)
	f.put("other", "1")
	f.flushAll()
	if !f.s.Pruning() || !hasRecord(t, f.db, revision{2, 0, false}) {
		t.Error("a batch pruned")
	}
	for f.s.Pruning() {
		_, c := f.s.Prune()
		f.queue = append(f.queue, c)
	}
	f.flushAll()
	if hasRecord(t, f.db, revision{2, 0, false}) {
		t.Error("Prune left something")
	}
	f.check()
}

// Operations are counted as etcd does: those of a transaction too, whether somebody
// waits for the answer or not.
func TestCounts_operations(t *testing.T) {
	var c Counts
	f := newFixture(t, Options{Counts: &c})
	f.put("k", "value")
	f.del("k", "")
	f.del("k", "") // nothing is there
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k")}}}
	get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}}
	for _, answer := range []Answer{None, Full} {
		for _, ops := range [][]*pb.RequestOp{{put}, {put, get}} {
			f.batch(func(b *Batch) {
				if _, err := b.Txn(&pb.TxnRequest{Success: ops}, answer); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	if _, err := f.s.View().Range(get.GetRequestRange()); err != nil {
		t.Fatal(err)
	}
	got := []int64{c.Puts.Load(), c.Deletes.Load(), c.Ranges.Load(), c.Txns.Load(), c.PutBytes.Load()}
	if want := []int64{5, 2, 3, 2, 10}; !slices.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
