package api

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

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

func (b *fakeBackend) BeginLeaseRenew(ctx context.Context, id int64) func() (*pb.LeaseKeepAliveResponse, error) {
	return func() (*pb.LeaseKeepAliveResponse, error) { return b.LeaseRenew(ctx, id) }
}

func (b *fakeBackend) LeaseTimeToLive(_ context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return &pb.LeaseTimeToLiveResponse{Header: b.header(), ID: r.ID, TTL: -1}, nil
}

func (b *fakeBackend) LeaseLeases(context.Context) (*pb.LeaseLeasesResponse, error) {
	return &pb.LeaseLeasesResponse{Header: b.header(), Leases: []*pb.LeaseStatus{{ID: 5}}}, nil
}

func newLeaseService(b Backend) *leaseService {
	return &leaseService{backend: b, who: identifier{backend: b}, receive: &sync.WaitGroup{}}
}

// A renewal of a lease that there is not is answered, and the stream goes on.
func TestLease_keepAliveGoesOn(t *testing.T) {
	stream := &fakeKeepAlive{ctx: t.Context(), ids: []int64{5, 6, 5}}
	s := newLeaseService(newFakeBackend())
	if err := s.LeaseKeepAlive(stream); err != nil {
		t.Fatal(err)
	}
	if len(stream.sent) != 3 || stream.sent[0].TTL != 10 || stream.sent[1].TTL != 0 || stream.sent[2].TTL != 10 {
		t.Errorf("answers %v", stream.sent)
	}
}

// slowRenewals is a member whose renewals take until enough is closed.
type slowRenewals struct {
	Backend
	begun  atomic.Int64
	many   chan struct{} // closed when maxRenewing are under way
	enough chan struct{}
}

func (b *slowRenewals) LeaseRenew(ctx context.Context, id int64) (*pb.LeaseKeepAliveResponse, error) {
	return b.BeginLeaseRenew(ctx, id)()
}

func (b *slowRenewals) BeginLeaseRenew(ctx context.Context, id int64) func() (*pb.LeaseKeepAliveResponse, error) {
	if b.begun.Add(1) == maxRenewing {
		close(b.many)
	}
	return func() (*pb.LeaseKeepAliveResponse, error) {
		select {
		case <-b.enough:
			return &pb.LeaseKeepAliveResponse{ID: id, TTL: 10}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Renewals of one stream go on together, within a bound, and are answered in the
// order of the requests.
func TestLease_keepAlivesTogether(t *testing.T) {
	ids := make([]int64, maxRenewing)
	for i := range ids {
		ids[i] = int64(i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream := &fakeKeepAlive{ctx: ctx, ids: ids}
	together := make(chan struct{})
	s := newLeaseService(&slowRenewals{Backend: newFakeBackend(), many: together, enough: together})
	if err := s.LeaseKeepAlive(stream); err != nil {
		t.Fatal(err)
	}
	s.receive.Wait()
	if len(stream.sent) != len(ids) {
		t.Fatalf("%d answers", len(stream.sent))
	}
	for i, resp := range stream.sent {
		if resp.ID != int64(i) {
			t.Errorf("answer %d is of lease %d", i, resp.ID)
		}
	}
}

// A stream whose client sends more and more, and whose renewals stand still,
// takes no more than the bound.
func TestLease_keepAlivesBounded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stream := &fakeKeepAlive{ctx: ctx, ids: make([]int64, 10*maxRenewing)}
	b := &slowRenewals{Backend: newFakeBackend(), many: make(chan struct{}), enough: make(chan struct{})}
	s := newLeaseService(b)
	ended := make(chan error)
	go func() { ended <- s.LeaseKeepAlive(stream) }()
	<-b.many
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v", err)
	}
	s.receive.Wait()
	// The one whose answer is awaited, and the one that waits for its place, are
	// beside the queue.
	if n := b.begun.Load(); n > maxRenewing+1 {
		t.Errorf("%d renewals were under way, want %d at most", n, maxRenewing+1)
	}
}

// A stream of renewals ends when there is no leader and its client wants one.
func TestLease_keepAliveWantsLeader(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.ElectionTimeout = 20 * time.Millisecond })
	ctx := metadata.AppendToOutgoingContext(call(t), "hasleader", "true")
	stream, err := pb.NewLeaseClient(f.dialPlain(t)).LeaseKeepAlive(ctx)
	must(t, err)
	must(t, stream.Send(&pb.LeaseKeepAliveRequest{ID: 5}))
	_, err = stream.Recv()
	must(t, err)
	f.backend.leader.Store(0)
	_, err = stream.Recv()
	want(t, "renewals without leader", err, codes.Unavailable, "etcdserver: no leader")
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
