package main

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// leaseTTL is long enough that none ends during a load, in seconds.
const leaseTTL = 60

// lease is a lease and the stream that renews it.
type lease struct {
	id     int64
	client *clientv3.Client
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
}

// grant makes one. Close it.
func grant(ctx context.Context, client *clientv3.Client) (*lease, error) {
	once, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	resp, err := client.Grant(once, leaseTTL)
	if err != nil {
		return nil, fmt.Errorf("grant a lease: %w", err)
	}
	l := &lease{id: int64(resp.ID), client: client}
	ctx, l.cancel = context.WithCancel(ctx)
	l.stream, err = pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		l.cancel()
		return nil, fmt.Errorf("open a stream of renewals: %w", err)
	}
	return l, nil
}

// renew sends a request and waits for the answer.
func (l *lease) renew() error {
	if err := l.stream.Send(&pb.LeaseKeepAliveRequest{ID: l.id}); err != nil {
		return err
	}
	resp, err := l.stream.Recv()
	if err == nil && resp.TTL <= 0 {
		err = fmt.Errorf("lease %x has ended", l.id)
	}
	return err
}

// close ends the stream and the lease, which would otherwise end in a later
// load.
func (l *lease) close() {
	l.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	_, _ = l.client.Revoke(ctx, clientv3.LeaseID(l.id)) // if it fails, the lease ends by itself
}
