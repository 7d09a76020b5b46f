package kv

import (
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A key of a foreign file may name a lease that there is not. When one of that id is
// granted, the key is attached to it, or not, alike on a member that was restarted
// since and on one that was not.
func TestLease_grantedThatAForeignKeyNames(t *testing.T) {
	for name, later := range map[string]func(*fixture){
		"as it was": func(*fixture) {},
		"put again": func(f *fixture) {
			f.batch(func(b *Batch) {
				if _, err := b.Put(&pb.PutRequest{Key: []byte("k"), Value: []byte("2"), Lease: 7}, None); err != nil {
					t.Fatal(err)
				}
			})
		},
		"lease kept": func(f *fixture) {
			f.batch(func(b *Batch) {
				if _, err := b.Put(&pb.PutRequest{Key: []byte("k"), Value: []byte("2"), IgnoreLease: true}, None); err != nil {
					t.Fatal(err)
				}
			})
		},
		"without lease":   func(f *fixture) { f.put("k", "2") },
		"deleted":         func(f *fixture) { f.del("k", "") },
		"range deleted":   func(f *fixture) { f.del("a", "z") },
		"of another":      func(f *fixture) { f.batch(func(b *Batch) { _ = b.Grant(8, 60) }) },
		"deleted, put":    func(f *fixture) { f.del("k", ""); f.put("k", "2") },
		"range del., put": func(f *fixture) { f.del("a", "z"); f.put("k", "2") },
	} {
		for _, first := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				f := newFixture(t, Options{})
				rec := record{key: []byte("k"), value: []byte("1"), create: 2, mod: 2, version: 1, lease: 7}
				err := f.db.Update(func(tx *bbolt.Tx) error {
					keys, err := tx.CreateBucketIfNotExists(bucketKey)
					if err != nil {
						return err
					}
					return keys.Put(appendRevKey(nil, revision{main: 2}), rec.encode())
				})
				if err != nil {
					t.Fatal(err)
				}
				f.open()
				grant := func() {
					f.batch(func(b *Batch) {
						if err := b.Grant(7, 60); err != nil {
							t.Fatal(err)
						}
					})
				}
				if first || name == "put again" {
					grant()
					later(f)
				} else {
					later(f)
					grant()
				}
				f.flushAll()
				f.check() // what is in memory against what a restart makes of the file
				before := f.s.View().LeaseKeyCount(7)
				f.open()
				if after := f.s.View().LeaseKeyCount(7); after != before {
					t.Errorf("%d keys are attached, after a restart %d", before, after)
				}
			})
		}
	}
}
