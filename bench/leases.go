package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// leaseHolders is how many streams renew the leases of `bench leases`.
	leaseHolders = 100
	// leaseWorkers is how many requests for grants, or ends, are under way.
	leaseWorkers = 500
	// renewals is how often a lease is renewed within its TTL.
	renewals = 3
	// pacedPuts is how many puts a second there are where the processors have time
	// left for everything.
	pacedPuts = 300
)

// manyLeases is the one load of `bench leases`.
var manyLeases = trial{name: "leases", empty: true, once: besideLeases, measures: []measure{
	{name: "puts/s, no leases"}, {name: "puts/s"}, {name: "puts, leases ÷ none", digits: 2},
	{name: "put p99 ms, no leases", digits: 1}, {name: "put p99 ms", digits: 1},
	{name: "server CPU µs/put, no leases", digits: 0}, {name: "server CPU µs/put", digits: 0},
	{name: "put p50 ms at a pace, no leases", digits: 2}, {name: "put p50 ms at a pace", digits: 2},
	{name: "put p99 ms at a pace, no leases", digits: 1}, {name: "put p99 ms at a pace", digits: 1},
	{name: "renewals/s"}, {name: "leases that ended"},
}}

// runLeases measures puts beside leases that are renewed on time, in rounds.
func runLeases(ctx context.Context, args []string) error {
	o, err := parseOptions("leases", defaults{systems: "etcd,conclave,empty", rounds: 3, duration: 20 * time.Second, more: func(set *flag.FlagSet, o *options) {
		set.IntVar(&o.leases, "leases", 100_000, "number of leases")
	}}, args)
	if err != nil {
		return err
	}
	return withFilled(ctx, o, func(ctx context.Context, b *bench) error {
		return b.runTrials(ctx, []trial{manyLeases})
	})
}

// besideLeases is 100 clients that put, as fast as they can and then at a pace, and
// the same beside leases that are each renewed three times within their TTL, through
// all members.
func besideLeases(ctx context.Context, b *bench, k *cluster, seed uint64) (values []float64, err error) {
	spec, err := b.atLeader(ctx, k, opPut, 100, seed)
	if err != nil {
		return nil, err
	}
	spec.Watch = watchSpec{}
	paced := spec
	paced.Pace = pacedPuts
	// both drives both loads.
	both := func() (full, some loadResult, err error) {
		if full, err = b.drive(ctx, k, spec); err == nil {
			some, err = b.drive(ctx, k, paced)
		}
		return full, some, err
	}
	alone, calm, err := both()
	if err != nil {
		return nil, err
	}
	h, err := holdLeases(ctx, k.members, b.leases)
	if err != nil {
		return nil, err
	}
	before, began := h.renewed.Load(), time.Now()
	beside, busy, err := both()
	rate := float64(h.renewed.Load()-before) / time.Since(began).Seconds()
	if err = errors.Join(err, h.close(ctx, k.members)); err != nil {
		return nil, err
	}
	cost := func(r loadResult) float64 { return r.ServerCPU / float64(r.Requests) * 1e6 }
	return []float64{
		alone.Rate, beside.Rate, beside.Rate / alone.Rate, alone.P99, beside.P99, cost(alone), cost(beside),
		calm.P50, busy.P50, calm.P99, busy.P99, rate, float64(h.ended.Load()),
	}, nil
}

// leaseHold is leases that are renewed on time.
type leaseHold struct {
	ids     []int64
	cancel  context.CancelFunc
	wait    sync.WaitGroup
	renewed atomic.Int64
	ended   atomic.Int64 // renewals that found no lease
	failed  atomic.Pointer[error]
}

// holdLeases grants n leases and renews them. Close it.
func holdLeases(ctx context.Context, members []*member, n int) (*leaseHold, error) {
	h := &leaseHold{ids: make([]int64, n)}
	err := eachLease(ctx, members, n, func(ctx context.Context, client pb.LeaseClient, i int) error {
		resp, err := client.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: leaseTTL})
		if err == nil {
			h.ids[i] = resp.ID
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("grant %d leases: %w", n, err)
	}
	ctx, h.cancel = context.WithCancel(ctx)
	for s := range leaseHolders {
		m := members[s%len(members)]
		h.wait.Go(func() {
			err := h.renew(ctx, m, h.ids[s*n/leaseHolders:(s+1)*n/leaseHolders])
			if ctx.Err() == nil {
				err = fmt.Errorf("renew leases through %s: %w", m.name, err)
				h.failed.CompareAndSwap(nil, &err)
			}
		})
	}
	return h, nil
}

// eachLease has workers do something n times, spread over the members.
func eachLease(ctx context.Context, members []*member, n int, do func(context.Context, pb.LeaseClient, int) error) error {
	errs := make([]error, leaseWorkers)
	var wg sync.WaitGroup
	for w := range leaseWorkers {
		client := pb.NewLeaseClient(members[w%len(members)].conn)
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += leaseWorkers {
				once, cancel := context.WithTimeout(ctx, opTimeout)
				errs[w] = do(once, client, i)
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// renew renews leases over one stream, evenly over a part of their TTL, and again.
func (h *leaseHold) renew(ctx context.Context, m *member, ids []int64) error {
	stream, err := pb.NewLeaseClient(m.conn).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	h.wait.Go(func() { h.count(ctx, m, stream) })
	pace := time.Duration(leaseTTL) * time.Second / renewals / time.Duration(len(ids))
	began := time.Now()
	for n := 0; ; n++ {
		if err := pause(ctx, time.Until(began.Add(time.Duration(n)*pace))); err != nil {
			return err
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: ids[n%len(ids)]}); err != nil {
			return err
		}
	}
}

func (h *leaseHold) count(ctx context.Context, m *member, stream pb.Lease_LeaseKeepAliveClient) {
	for {
		resp, err := stream.Recv()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			err = fmt.Errorf("renew leases through %s: %w", m.name, err)
			h.failed.CompareAndSwap(nil, &err)
			return
		case resp.TTL <= 0:
			h.ended.Add(1)
		default:
			h.renewed.Add(1)
		}
	}
}

// close ends the renewals, and the leases, which would otherwise end in a later
// round.
func (h *leaseHold) close(ctx context.Context, members []*member) error {
	h.cancel()
	h.wait.Wait()
	if err := h.failed.Load(); err != nil {
		return *err
	}
	return eachLease(ctx, members, len(h.ids), func(ctx context.Context, client pb.LeaseClient, i int) error {
		_, _ = client.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: h.ids[i]}) // it may have ended
		return nil
	})
}
