package kvdiff

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"go.etcd.io/etcd/server/v3/etcdserver/txn"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
)

// An etcdStore is etcd's own store, without leases.
type etcdStore struct {
	backend backend.Backend
	kv      mvcc.KV
	lessor  lease.Lessor
}

// openEtcd opens or makes the state file of that path.
func openEtcd(path string) *etcdStore {
	cfg := backend.DefaultBackendConfig(zap.NewNop())
	cfg.Path = path
	cfg.UnsafeNoFsync = true
	cfg.BatchInterval = time.Hour // close commits
	s := &etcdStore{
		backend: backend.New(cfg),
		lessor:  &lease.FakeLessor{LeaseSet: map[lease.LeaseID]struct{}{}},
	}
	s.kv = mvcc.New(zap.NewNop(), s.backend, s.lessor, mvcc.StoreConfig{CompactionSleepInterval: time.Microsecond})
	return s
}

func (s *etcdStore) close() error {
	s.kv.Commit()
	return errors.Join(s.kv.Close(), s.backend.Close())
}

// do performs a request as etcd's apply loop does. Errors are kv's. Compactions
// are done when it returns, and have no response.
func (s *etcdStore) do(req proto.Message) (resp proto.Message, err error) {
	ctx, lg := context.Background(), zap.NewNop()
	switch q := req.(type) {
	case *pb.RangeRequest:
		resp, _, err = txn.Range(ctx, lg, s.kv, q, true)
	case *pb.PutRequest:
		resp, _, err = txn.Put(ctx, lg, s.lessor, s.kv, q)
	case *pb.DeleteRangeRequest:
		resp, _, err = txn.DeleteRange(ctx, lg, s.kv, q)
	case *pb.TxnRequest:
		resp, _, err = txn.Txn(ctx, lg, q, false, s.kv, s.lessor, false)
	case *pb.CompactionRequest:
		var done <-chan struct{}
		if done, err = s.kv.Compact(traceutil.TODO(), q.Revision); err == nil {
			<-done
		}
	default:
		err = fmt.Errorf("etcd does not perform a %T", q)
	}
	return resp, sameError(err)
}

// hash is etcd's hash of what is visible at rev; 0 is the newest revision.
func (s *etcdStore) hash(rev int64) (kv.Hash, error) {
	h, current, err := s.kv.HashStorage().HashByRev(rev)
	return kv.Hash{Sum: h.Hash, Revision: h.Revision, CompactRev: h.CompactRevision, CurrentRev: current}, sameError(err)
}

// sameError gives kv's name to an error of etcd's.
func sameError(err error) error {
	for theirs, ours := range map[error]error{
		mvcc.ErrCompacted:         kv.ErrCompacted,
		mvcc.ErrFutureRev:         kv.ErrFutureRevision,
		lease.ErrLeaseNotFound:    kv.ErrLeaseNotFound,
		etcderrors.ErrKeyNotFound: kv.ErrKeyNotFound,
	} {
		if errors.Is(err, theirs) {
			return ours
		}
	}
	return err
}
