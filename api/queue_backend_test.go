package api

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
)

// keyBackend is a member with a real store, and one lease after the other for
// who asks for any.
type keyBackend struct {
	*fakeBackend
	store   *kv.Store
	watches *kv.Hub

	mu      sync.Mutex // one batch at a time
	granted int64
	reads   atomic.Int64 // ranges, and transactions that only read
	renewed atomic.Int64
}

func newKeyBackend(t testing.TB) *keyBackend {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	b := &keyBackend{fakeBackend: newFakeBackend(), granted: 1000}
	must(t, db.View(func(tx *bbolt.Tx) (err error) {
		b.store, err = kv.Open(db, tx, kv.Options{})
		return err
	}))
	b.watches = kv.NewHub(b.store.View())
	return b
}

// apply performs a change and tells the watches.
func (b *keyBackend) apply(change func(*kv.Batch) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := b.store.NewBatch()
	err := change(batch)
	view, changes := batch.Freeze()
	b.watches.Publish(view, changes)
	b.watches.Route()
	return err
}

func (b *keyBackend) complete(h *pb.ResponseHeader) { h.ClusterId, h.MemberId, h.RaftTerm = 1, 7, 2 }

func (b *keyBackend) NewWatchStream() *kv.Stream { return b.watches.NewStream() }

func (b *keyBackend) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	b.reads.Add(1)
	resp, err := b.store.View().Range(r)
	if err == nil {
		b.complete(resp.Header)
	}
	return resp, err
}

func (b *keyBackend) Txn(ctx context.Context, r *pb.TxnRequest) (resp *pb.TxnResponse, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if proposed(r) {
		err = b.apply(func(batch *kv.Batch) (err error) {
			resp, err = batch.Txn(r, kv.Full)
			return err
		})
	} else {
		b.reads.Add(1)
		resp, err = b.store.View().ReadTxn(r, nil)
	}
	if err == nil {
		b.complete(resp.Header)
	}
	return resp, err
}

func (b *keyBackend) DeleteRange(_ context.Context, r *pb.DeleteRangeRequest) (resp *pb.DeleteRangeResponse, err error) {
	err = b.apply(func(batch *kv.Batch) (err error) {
		resp, err = batch.DeleteRange(r, kv.Full)
		return err
	})
	if err == nil {
		b.complete(resp.Header)
	}
	return resp, err
}

func (b *keyBackend) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	err := b.apply(func(batch *kv.Batch) error {
		if r.ID == 0 {
			b.granted++
			r.ID = b.granted
		}
		return batch.Grant(r.ID, r.TTL)
	})
	return &pb.LeaseGrantResponse{Header: b.Header(b.store.View().Rev()), ID: r.ID, TTL: r.TTL}, err
}

func (b *keyBackend) LeaseRevoke(_ context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	err := b.apply(func(batch *kv.Batch) error { return batch.Revoke(r.ID) })
	return &pb.LeaseRevokeResponse{Header: b.Header(b.store.View().Rev())}, err
}

func (b *keyBackend) LeaseRenew(_ context.Context, id int64) (*pb.LeaseKeepAliveResponse, error) {
	b.renewed.Add(1)
	return &pb.LeaseKeepAliveResponse{Header: b.Header(1), ID: id, TTL: ownLeaseTTL}, nil
}

func (b *keyBackend) BeginLeaseRenew(ctx context.Context, id int64) func() (*pb.LeaseKeepAliveResponse, error) {
	return func() (*pb.LeaseKeepAliveResponse, error) { return b.LeaseRenew(ctx, id) }
}

// keys are the names of the keys with a prefix.
func (b *keyBackend) keys(t testing.TB, prefix string) (names []string) {
	t.Helper()
	resp, err := b.store.View().Range(&pb.RangeRequest{Key: []byte(prefix), RangeEnd: prefixEnd(prefix), SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND})
	must(t, err)
	for _, kv := range resp.Kvs {
		names = append(names, string(kv.Key))
	}
	return names
}
