package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// kvService is etcdserverpb.KV. Errors are translated by the interceptor.
type kvService struct {
	pb.UnimplementedKVServer
	backend  Backend
	validate validator
	sending  *sending // nil: the answers are not sent
}

func (s *kvService) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := checkRange(r); err != nil {
		return nil, err
	}
	if !long(r) {
		return s.backend.Range(ctx, r)
	}
	return within(ctx, s.sending, func(ctx context.Context) (*pb.RangeResponse, error) { return s.backend.Range(ctx, r) })
}

func (s *kvService) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if err := checkPut(r); err != nil {
		return nil, err
	}
	if err := s.validate.size(r); err != nil {
		return nil, err
	}
	return s.backend.Put(ctx, r)
}

func (s *kvService) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if err := checkDelete(r); err != nil {
		return nil, err
	}
	if err := s.validate.size(r); err != nil {
		return nil, err
	}
	if !longDelete(r) {
		return s.backend.DeleteRange(ctx, r)
	}
	return within(ctx, s.sending, func(ctx context.Context) (*pb.DeleteRangeResponse, error) { return s.backend.DeleteRange(ctx, r) })
}

func (s *kvService) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := s.validate.txn(r); err != nil {
		return nil, err
	}
	if proposed(r) {
		if err := s.validate.size(r); err != nil {
			return nil, err
		}
	}
	if !longTxn(r) {
		return s.backend.Txn(ctx, r)
	}
	return within(ctx, s.sending, func(ctx context.Context) (*pb.TxnResponse, error) { return s.backend.Txn(ctx, r) })
}

func (s *kvService) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return s.backend.Compact(ctx, r)
}
