package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The state that an install moves: large values, so that it is soon there.
const (
	stateValue   = 64 << 10
	stateClients = 16
)

// levelEvery is how often a new member's revision is compared with the leader's
// of the comparison before: it is level when it has reached that.
const levelEvery = 100 * time.Millisecond

// installLimit bounds the time to level.
const installLimit = 15 * time.Minute

// installResult is one install.
type installResult struct {
	before, during float64 // writes per second
	level          time.Duration
	leader, joiner memory
}

// runInstall has a new member join a cluster that holds a large state while
// clients write.
func runInstall(ctx context.Context, args []string) error {
	o, err := parseOptions("install", defaults{systems: led, rounds: 1, duration: 10 * time.Second, more: func(set *flag.FlagSet, o *options) {
		set.IntVar(&o.state, "state", 1024, "MiB of values that the cluster holds")
		set.IntVar(&o.clients, "clients", 20, "clients that write meanwhile")
	}}, args)
	if err != nil {
		return err
	}
	return withBench(ctx, o, func(ctx context.Context, b *bench) error {
		results := map[string][]installResult{}
		for round := range b.rounds {
			for _, system := range b.systems {
				r, err := b.installOnce(ctx, system)
				if err != nil {
					return fmt.Errorf("%s: %w", system, err)
				}
				results[system] = append(results[system], r)
				fmt.Printf("round %2d: %-8s %s\n", round+1, system, r)
			}
		}
		printInstalls(b.systems, results)
		return nil
	})
}

func (r installResult) String() string {
	return fmt.Sprintf("%.0f writes/s before, %.0f during (ratio %.2f), level after %.1f s, peak memory: leader %s, new member %s",
		r.before, r.during, r.during/r.before, r.level.Seconds(), r.leader, r.joiner)
}

// installOnce fills a new cluster and has a fourth member join.
func (b *bench) installOnce(ctx context.Context, system string) (r installResult, err error) {
	k, err := b.startCluster(ctx, system)
	if err != nil {
		return r, err
	}
	defer k.stop()
	fill := b.spec(k, opFill, stateClients)
	fill.Endpoints, fill.Keys, fill.Value = k.endpoints(), max(b.state<<20/stateValue, 1), stateValue
	fill.Duration = installLimit // its limit; it ends when all is written
	if _, err := b.drive(ctx, k, fill); err != nil {
		return r, err
	}
	leader, err := k.leader(ctx)
	if err != nil {
		return r, err
	}
	w := newRateWriter(ctx, k.members, b.clients, b.value)
	defer w.close()
	if err := pause(ctx, b.warmup); err != nil {
		return r, err
	}
	if r.before, err = w.rate(func() error { return pause(ctx, b.duration) }); err != nil {
		return r, err
	}
	joiner, err := b.join(ctx, k, leader)
	if err != nil {
		return r, err
	}
	watch := watchMemory(ctx, leader.proc.pid(), joiner.proc.pid())
	began := time.Now()
	r.during, err = w.rate(func() error { return awaitLevel(ctx, leader, joiner) })
	r.level = time.Since(began)
	peaks := watch.close()
	r.leader, r.joiner = peaks[0], peaks[1]
	return r, err
}

// join adds one more member and starts it.
func (b *bench) join(ctx context.Context, k *cluster, leader *member) (*member, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	url := k.certs.scheme() + ports[1]
	err = await(ctx, k.system+" to add a member", func(ctx context.Context) error {
		_, err := pb.NewClusterClient(leader.conn).MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{url}})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := k.add(ports[0], ports[1]); err != nil {
		return nil, err
	}
	m := k.members[len(k.members)-1]
	if err := b.giveDisk(k, m); err != nil {
		return nil, err
	}
	return m, k.start(m)
}

// awaitLevel waits until a new member has what the leader had one look before.
func awaitLevel(ctx context.Context, leader, joiner *member) error {
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	var goal int64
	for {
		if status, err := joiner.statusWithin(ctx, time.Second); err == nil && goal > 0 && status.Header.Revision >= goal {
			return nil
		}
		if status, err := leader.statusWithin(ctx, time.Second); err == nil {
			goal = status.Header.Revision
		}
		if err := pause(ctx, levelEvery); err != nil {
			return fmt.Errorf("wait for the new member to be level with revision %d: %w", goal, err)
		}
	}
}

func (m *member) statusWithin(ctx context.Context, limit time.Duration) (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return m.status(ctx)
}

func printInstalls(systems []string, results map[string][]installResult) {
	column := func(system string, value func(installResult) float64) float64 {
		var values []float64
		for _, r := range results[system] {
			values = append(values, value(r))
		}
		return median(values)
	}
	fmt.Println("\nA member joins under load (medians):")
	fmt.Println("| system   | writes/s before | during | ratio | level after s | leader: peak RSS (private) MiB | new member: peak RSS (private) MiB |")
	fmt.Println("|----------|-----------------|--------|-------|---------------|--------------------------------|------------------------------------|")
	for _, s := range systems {
		pair := func(of func(installResult) memory) string {
			return fmt.Sprintf("%.0f (%.0f)", column(s, func(r installResult) float64 { return of(r).peak }),
				column(s, func(r installResult) float64 { return of(r).private }))
		}
		fmt.Printf("| %-8s | %15.0f | %6.0f | %5.2f | %13.1f | %30s | %34s |\n", s,
			column(s, func(r installResult) float64 { return r.before }), column(s, func(r installResult) float64 { return r.during }),
			column(s, func(r installResult) float64 { return r.during / r.before }), column(s, func(r installResult) float64 { return r.level.Seconds() }),
			pair(func(r installResult) memory { return r.leader }), pair(func(r installResult) memory { return r.joiner }))
	}
}
