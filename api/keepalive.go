package api

import (
	"context"
	"errors"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// maxRenewing bounds the renewals of one stream that are under way; the client's
// next one waits in the connection.
const maxRenewing = 1024

// renewal is one of them. Those of a stream are a list, so that a stream with few
// of them takes little memory. The record, if any, is made of its answer.
type renewal struct {
	wait   func() (*pb.LeaseKeepAliveResponse, error)
	record *audited
	next   chan *renewal // closed after the last one
}

func newRenewal() *renewal {
	return &renewal{next: make(chan *renewal, 1)}
}

// keepAlive is one call of LeaseKeepAlive.
type keepAlive struct {
	*leaseService
	pb.Lease_LeaseKeepAliveServer
	under chan struct{} // one for each renewal that is under way
	ended error         // why there are no more; to be read after the last one
}

// LeaseKeepAlive renews leases together, and answers in the order of the
// requests: a client renews all of its leases over one stream, and each renewal
// may wait for an entry of the log. A lease that there is not has the TTL 0, and
// the stream goes on. The goroutine that receives ends soon after this call does,
// since Recv then fails.
func (s *leaseService) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	k := &keepAlive{leaseService: s, Lease_LeaseKeepAliveServer: stream, under: make(chan struct{}, maxRenewing)}
	first := newRenewal() // no renewal yet, only the beginning of the list
	s.receive.Go(func() { k.receiveAll(ctx, first) })
	return k.answerAll(ctx, first)
}

// receiveAll begins a renewal for each request, and lists them after last.
func (k *keepAlive) receiveAll(ctx context.Context, last *renewal) {
	defer func() { close(last.next) }()
	further := false
	for {
		req, err := k.Recv()
		if err != nil {
			k.ended = err
			return
		}
		select {
		case k.under <- struct{}{}:
		case <-ctx.Done():
			k.ended = context.Cause(ctx)
			return
		}
		record := k.audit.begin(pb.Lease_LeaseKeepAlive_FullMethodName, req, time.Now())
		record.follow(further)
		r := newRenewal()
		if further && !k.backend.AuthView().Enabled() {
			r.wait, r.record = k.backend.BeginLeaseRenew(ctx, req.GetID()), record
		} else { // to find out who asks, and to record it, may take time
			r.wait = k.renewBeside(ctx, req.GetID(), record)
		}
		further = true
		last.next <- r
		last = r
	}
}

// renewBeside is renew in a goroutine of its own, and returns how to wait for it.
func (k *keepAlive) renewBeside(ctx context.Context, id int64, record *audited) func() (*pb.LeaseKeepAliveResponse, error) {
	var resp *pb.LeaseKeepAliveResponse
	var err error
	done := make(chan struct{})
	k.receive.Go(func() {
		defer close(done)
		resp, err = k.renew(ctx, id, record)
	})
	return func() (*pb.LeaseKeepAliveResponse, error) {
		select {
		case <-done:
			return resp, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// renew renews a lease as who the client is by now.
func (k *keepAlive) renew(ctx context.Context, id int64, record *audited) (resp *pb.LeaseKeepAliveResponse, err error) {
	defer func() { record.end(ctx, resp, err, toGRPC(err)) }()
	if ctx, err = k.who.enter(ctx); err != nil {
		return nil, err
	}
	if err := record.admit(ctx); err != nil {
		return nil, err
	}
	return k.backend.LeaseRenew(ctx, id)
}

// answerAll answers the renewals after last.
func (k *keepAlive) answerAll(ctx context.Context, last *renewal) error {
	for {
		select {
		case r, more := <-last.next:
			switch {
			case !more && errors.Is(k.ended, io.EOF):
				return nil
			case !more:
				return k.ended
			}
			last = r
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		resp, err := last.wait()
		last.record.end(ctx, resp, err, toGRPC(err))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
		<-k.under
		if err := k.Send(resp); err != nil {
			return err
		}
	}
}
