package api

import (
	"context"
	"io"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/member"
)

// The fake member grants every lease and knows one, 5.

func (b *fakeBackend) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if r.ID == 5 {
		return nil, kv.ErrLeaseExists
	}
	if r.TTL > 9_000_000_000 {
		return nil, member.ErrLeaseTooLong
	}
	return &pb.LeaseGrantResponse{Header: b.header(), ID: r.ID, TTL: r.TTL}, nil
}

func (b *fakeBackend) LeaseRevoke(_ context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if r.ID != 5 {
		return nil, kv.ErrLeaseNotFound
	}
	return &pb.LeaseRevokeResponse{Header: b.header()}, nil
}

func (b *fakeBackend) LeaseRenew(_ context.Context, id int64) (*pb.LeaseKeepAliveResponse, error) {
	resp := &pb.LeaseKeepAliveResponse{Header: b.header(), ID: id}
	if id == 5 {
		resp.TTL = 10
	}
	return resp, nil
}

func (b *fakeBackend) LeaseTimeToLive(_ context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return &pb.LeaseTimeToLiveResponse{Header: b.header(), ID: r.ID, TTL: -1}, nil
}

func (b *fakeBackend) LeaseLeases(context.Context) (*pb.LeaseLeasesResponse, error) {
	return &pb.LeaseLeasesResponse{Header: b.header(), Leases: []*pb.LeaseStatus{{ID: 5}}}, nil
}

// A renewal of a lease that there is not is answered, and the stream goes on.
func TestLease_keepAliveGoesOn(t *testing.T) {
	stream := &fakeKeepAlive{ctx: t.Context(), ids: []int64{5, 6, 5}}
	if err := (&leaseService{backend: newFakeBackend(), who: identifier{backend: newFakeBackend()}}).LeaseKeepAlive(stream); err != nil {
		t.Fatal(err)
	}
	if len(stream.sent) != 3 || stream.sent[0].TTL != 10 || stream.sent[1].TTL != 0 || stream.sent[2].TTL != 10 {
		t.Errorf("answers %v", stream.sent)
	}
}

// fakeKeepAlive is a stream of a client that renews ids and then is done.
type fakeKeepAlive struct {
	pb.Lease_LeaseKeepAliveServer
	ctx  context.Context
	ids  []int64
	sent []*pb.LeaseKeepAliveResponse
}

func (s *fakeKeepAlive) Context() context.Context { return s.ctx }

func (s *fakeKeepAlive) Recv() (*pb.LeaseKeepAliveRequest, error) {
	if len(s.ids) == 0 {
		return nil, io.EOF
	}
	id := s.ids[0]
	s.ids = s.ids[1:]
	return &pb.LeaseKeepAliveRequest{ID: id}, nil
}

func (s *fakeKeepAlive) Send(r *pb.LeaseKeepAliveResponse) error {
	s.sent = append(s.sent, r)
	return nil
}
