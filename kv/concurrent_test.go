package kv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Each batch gives all keys the same value, so that a reader can tell a torn
// view from a whole one, at the newest and at any older revision.
func TestStore_readersBesideWriterAndCommitter(t *testing.T) {
	const keys, batches = 40, 300
	f := newFixture(t, Options{InlineBudget: 1500, PruneStep: 30})
	queue := make(chan *Changes, batches)
	var readers, committer sync.WaitGroup
	var done atomic.Bool
	var reads atomic.Int64

	write := func(i int) {
		b := f.s.NewBatch()
		var ops []*pb.RequestOp
		for k := range keys {
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: fmt.Appendf(nil, "k%02d", k), Value: fmt.Appendf(nil, "%037d", i)}}})
		}
		if _, err := b.Txn(&pb.TxnRequest{Success: ops}, None); err != nil {
			t.Error(err)
		}
		if i%10 == 9 {
			if _, err := b.Compact(&pb.CompactionRequest{Revision: b.Rev() - 5}, None); err != nil {
				t.Error(err)
			}
		}
		_, c := b.Freeze()
		queue <- c
	}
	write(0)
	for r := range 3 {
		readers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(r), 0))
			for !done.Load() {
				checkWhole(t, f.s.View(), rnd, keys)
				reads.Add(1)
			}
		})
	}
	readers.Go(func() {
		for !done.Load() {
			if _, err := f.s.HashKV(0); err != nil && !errors.Is(err, ErrCompacted) {
				t.Error(err)
			}
		}
	})
	committer.Go(func() {
		for c := range queue {
			if err := f.db.Update(func(tx *bbolt.Tx) error { return c.Write(tx) }); err != nil {
				t.Error(err)
			}
			c.Done()
		}
	})
	for i := 1; i < batches || reads.Load() < 100 && !t.Failed(); i++ {
		write(i)
	}
	for f.s.Pruning() {
		_, c := f.s.NewBatch().Freeze()
		queue <- c
	}
	close(queue)
	committer.Wait()
	done.Store(true)
	readers.Wait()
}

func checkWhole(t *testing.T, v *View, rnd *rand.Rand, keys int) {
	req := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	if back := rnd.Int64N(4); v.Rev()-back > 1 && rnd.IntN(2) == 0 {
		req.Revision = v.Rev() - back
	}
	resp, err := v.Range(req)
	if errors.Is(err, ErrCompacted) {
		return
	}
	if err != nil || len(resp.Kvs) != keys || resp.Count != int64(keys) {
		t.Errorf("view %d: %d keys of %d, %v", v.Rev(), len(resp.GetKvs()), keys, err)
		return
	}
	for _, kv := range resp.Kvs {
		if string(kv.Value) != string(resp.Kvs[0].Value) || kv.ModRevision != resp.Kvs[0].ModRevision {
			t.Errorf("view %d is torn: %v and %v", v.Rev(), kv, resp.Kvs[0])
			return
		}
	}
}

func TestStore_useDBreadsTheOtherFile(t *testing.T) {
	f := newFixture(t, Options{MaxInline: -1})
	v := f.put("k", "1")
	f.flushAll()
	path := t.TempDir() + "/copy"
	if err := f.db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(path, 0o600) }); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.s.UseDB(db)
	if err := f.db.Close(); err != nil {
		t.Fatal(err)
	}
	f.db = db
	if got, err := get(t, v, "k", 0); err != nil || got != "1" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestStore_oneBatchAtATime(t *testing.T) {
	f := newFixture(t, Options{})
	b := f.s.NewBatch()
	defer func() {
		if recover() == nil {
			t.Error("a second batch was opened")
		}
		b.Freeze()
	}()
	f.s.NewBatch()
}
