package api

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/lockpb"
)

// The refusals of elections, with etcd's texts and its lack of a code.
var (
	errNoLeaderGiven = status.Error(codes.Unknown, `"leader" field must be provided`)
	errNotLeading    = status.Error(codes.Unknown, "election: not leader")
	errNobodyLeads   = status.Error(codes.Unknown, "election: no leader")
)

// electionService is lockpb.Election.
type electionService struct {
	lockpb.UnimplementedElectionServer
	queue *queue
}

// Campaign returns when the caller leads. A lease that stands already only gets
// a new value.
func (s *electionService) Campaign(ctx context.Context, r *lockpb.CampaignRequest) (*lockpb.CampaignResponse, error) {
	p, err := s.queue.join(ctx, r.GetName(), r.GetLease(), r.GetValue())
	if err != nil {
		return nil, err
	}
	if p.was != nil && !bytes.Equal(p.was.Value, r.GetValue()) {
		if _, err := s.proclaim(ctx, p.key, p.created, p.lease, r.GetValue()); err != nil {
			s.queue.leave(ctx, p)
			return nil, err
		}
	}
	if !p.first {
		_, err = s.queue.await(ctx, p)
	}
	switch {
	case errors.Is(err, errPlaceLost): // where etcd says elected
		return nil, errNotLeading
	case err != nil:
		return nil, err
	}
	leader := &lockpb.LeaderKey{Name: r.GetName(), Key: p.key, Rev: p.created, Lease: p.lease}
	return &lockpb.CampaignResponse{Header: p.header, Leader: leader}, nil
}

// Proclaim gives the leader a new value.
func (s *electionService) Proclaim(ctx context.Context, r *lockpb.ProclaimRequest) (*lockpb.ProclaimResponse, error) {
	l := r.GetLeader()
	if l == nil {
		return nil, errNoLeaderGiven
	}
	lease, _, err := s.queue.leaseOf(ctx, l.GetLease())
	if err != nil {
		return nil, err
	}
	header, err := s.proclaim(ctx, l.GetKey(), l.GetRev(), lease, r.GetValue())
	if err != nil {
		return nil, err
	}
	return &lockpb.ProclaimResponse{Header: header}, nil
}

func (s *electionService) proclaim(ctx context.Context, key []byte, created, lease int64, value []byte) (*pb.ResponseHeader, error) {
	resp, err := s.queue.kv.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(key, created)},
		Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: key, Value: value, Lease: lease})},
	})
	switch {
	case err != nil:
		return nil, recipeError(err)
	case !resp.Succeeded:
		return nil, errNotLeading
	}
	return resp.Header, nil
}

// Resign ends a leadership. One that is over already is no error.
func (s *electionService) Resign(ctx context.Context, r *lockpb.ResignRequest) (*lockpb.ResignResponse, error) {
	l := r.GetLeader()
	if l == nil {
		return nil, errNoLeaderGiven
	}
	resp, err := s.queue.remove(ctx, l.GetKey(), l.GetRev())
	if err != nil {
		return nil, recipeError(err)
	}
	return &lockpb.ResignResponse{Header: resp.Header}, nil
}

// Leader tells who leads now.
func (s *electionService) Leader(ctx context.Context, r *lockpb.LeaderRequest) (*lockpb.LeaderResponse, error) {
	resp, err := s.queue.kv.Range(ctx, oldestOf(prefixOf(r.GetName())))
	switch {
	case err != nil:
		return nil, recipeError(err)
	case len(resp.Kvs) == 0:
		return nil, errNobodyLeads
	}
	return &lockpb.LeaderResponse{Header: resp.Header, Kv: resp.Kvs[0]}, nil
}
