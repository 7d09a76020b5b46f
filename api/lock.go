package api

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/lockpb"
)

// errSessionExpired is etcd's text for a waiter whose key is gone.
var errSessionExpired = status.Error(codes.Unknown, "mutex: session is expired")

// lockService is v3lockpb.Lock.
type lockService struct {
	lockpb.UnimplementedLockServer
	queue *queue
}

// Lock returns when the caller holds the lock, until when its key is in the
// queue. One lease is one holder, however often it asks.
func (s *lockService) Lock(ctx context.Context, r *lockpb.LockRequest) (*lockpb.LockResponse, error) {
	p, err := s.queue.join(ctx, r.GetName(), r.GetLease(), nil)
	if err != nil {
		return nil, err
	}
	header := p.header
	if !p.first {
		header, err = s.queue.await(ctx, p)
	}
	switch {
	case errors.Is(err, errPlaceLost):
		return nil, errSessionExpired
	case err != nil:
		return nil, err
	}
	return &lockpb.LockResponse{Header: header, Key: p.key}, nil
}

// Unlock deletes the key that Lock gave, whoever asks.
func (s *lockService) Unlock(ctx context.Context, r *lockpb.UnlockRequest) (*lockpb.UnlockResponse, error) {
	resp, err := s.queue.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: r.GetKey()})
	if err != nil {
		return nil, recipeError(err)
	}
	return &lockpb.UnlockResponse{Header: resp.Header}, nil
}
