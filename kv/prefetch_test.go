package kv

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Looking ahead changes nothing, whatever there is to see: no key at all, one that
// is missing, deleted, of many revisions, or empty; trees of each depth.
func TestBatch_prefetch(t *testing.T) {
	for _, n := range []int{0, 1, leafMax + 1, 5000} {
		f := newFixture(t, Options{InlineBudget: 10_000})
		keys := [][]byte{{}, []byte("k"), []byte("zz")}
		f.batch(func(b *Batch) {
			for i := range n {
				key := fmt.Appendf(nil, "k%d", i)
				for range 1 + i%3 {
					if _, err := b.Put(&pb.PutRequest{Key: key, Value: make([]byte, 100)}, None); err != nil {
						t.Fatal(err)
					}
				}
				if i%5 == 0 {
					if _, err := b.DeleteRange(&pb.DeleteRangeRequest{Key: key}, None); err != nil {
						t.Fatal(err)
					}
				}
				keys = append(keys, key)
			}
			rev, recs := b.rev, len(b.ch.recs)
			b.Prefetch(keys)
			if b.rev != rev || len(b.ch.recs) != recs {
				t.Errorf("%d keys: revision %d and %d records became %d and %d", n, rev, recs, b.rev, len(b.ch.recs))
			}
		})
		v := f.s.View()
		f.batch(func(b *Batch) {
			b.Prefetch(nil)
			b.Prefetch(keys)
			if b.root != v.root {
				t.Errorf("%d keys: the tree was copied", n)
			}
		})
		f.flushAll()
		f.check()
	}
}
