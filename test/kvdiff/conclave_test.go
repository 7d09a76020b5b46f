package kvdiff

import (
	"fmt"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
)

// A conclaveStore is package kv's store, with its unwritten changes.
type conclaveStore struct {
	db    *bbolt.DB
	kv    *kv.Store
	queue []*kv.Changes
}

// openConclave opens or makes the state file of that path.
func openConclave(path string) (*conclaveStore, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		return nil, err
	}
	s := &conclaveStore{db: db}
	return s, s.load()
}

// load forgets what is in memory. The options are small, so that few requests
// reach their limits.
func (s *conclaveStore) load() error {
	return s.db.View(func(tx *bbolt.Tx) (err error) {
		s.kv, err = kv.Open(s.db, tx, kv.Options{PruneStep: 5, MaxInline: 30})
		return err
	})
}

func (s *conclaveStore) rev() int64 { return s.kv.View().Rev() }

// do performs a request: a read on the newest view, anything else as a batch
// of its own.
func (s *conclaveStore) do(req proto.Message) (resp proto.Message, err error) {
	if q, ok := req.(*pb.RangeRequest); ok {
		return s.kv.View().Range(q)
	}
	b := s.kv.NewBatch()
	switch q := req.(type) {
	case *pb.PutRequest:
		resp, err = b.Put(q, kv.Full)
	case *pb.DeleteRangeRequest:
		resp, err = b.DeleteRange(q, kv.Full)
	case *pb.TxnRequest:
		resp, err = b.Txn(q, kv.Full)
	case *pb.CompactionRequest:
		_, err = b.Compact(q, kv.Full) // etcd's store gives no response to compare
	default:
		err = fmt.Errorf("conclave does not perform a %T", q)
	}
	s.freeze(b)
	return resp, err
}

func (s *conclaveStore) freeze(b *kv.Batch) {
	_, changes := b.Freeze()
	s.queue = append(s.queue, changes)
}

// flush writes the queued changes.
func (s *conclaveStore) flush() error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for _, c := range s.queue {
			if err := c.Write(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range s.queue {
		c.Done()
	}
	s.queue = nil
	return nil
}

// settle finishes a compaction, and writes everything.
func (s *conclaveStore) settle() error {
	for s.kv.Pruning() {
		s.freeze(s.kv.NewBatch())
	}
	return s.flush()
}
