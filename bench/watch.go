package main

import (
	"context"
	"time"
)

// watchTrials are the loads, in the order they run.
var watchTrials = []trial{
	{name: "fanout-1000", once: fanout, measures: []measure{
		{name: "events/s", bar: bar{atLeast: 1.5}}, {name: "puts/s"}, {name: "put to event, p99 ms", digits: 1},
		{name: "server CPU µs/event", digits: 1},
	}},
	{name: "scatter-10000", once: scatter, measures: []measure{
		{name: "put to event, p50 ms", digits: 2}, {name: "put to event, p99 ms", digits: 2, bar: bar{atMost: 1}},
		{name: "server CPU µs/event", digits: 0},
	}},
	{name: "beside", once: beside, measures: []measure{
		{name: "puts/s, no watches"},
		{name: "puts, 1,000 idle watches ÷ none", digits: 2, bar: bar{itself: 0.95}},
		{name: "puts, 10 stalled watches ÷ none", digits: 2, bar: bar{itself: 0.95}},
		{name: "server CPU/put, idle ÷ none", digits: 2},
		{name: "server CPU/put, stalled ÷ none", digits: 2},
	}},
	{name: "keepalive-1000", once: keepAlive, empty: true, measures: []measure{
		{name: "renewals/s", bar: bar{atLeast: 1.5}}, {name: "p99 ms", digits: 2}, {name: "server CPU µs/renewal", digits: 1},
	}},
	{name: "kubernetes", once: kubernetes, measures: []measure{
		{name: "writes/s", bar: bar{atLeast: 1.3}}, {name: "progress, p99 ms", digits: 2, bar: bar{atMost: 1}}, {name: "events/s"},
	}},
	{name: "memory-10000", once: heldMemory, measures: []measure{
		{name: "resident bytes/watch", bar: bar{atMost: 0.7}}, {name: "live bytes/watch"},
	}},
}

// runWatch measures watches and leases, in rounds.
func runWatch(ctx context.Context, args []string) error {
	o, err := parseOptions("watch", defaults{systems: "etcd,conclave,empty", rounds: 3, duration: 4 * time.Second}, args)
	if err != nil {
		return err
	}
	chosen, err := choose(o.loads, watchTrials, func(l trial) string { return l.name })
	if err != nil {
		return err
	}
	return withFilled(ctx, o, func(ctx context.Context, b *bench) error {
		return b.runTrials(ctx, chosen)
	})
}

// fanout is one client that puts one key without pause, which 1,000 watch. The
// writer is not in the watchers' process, which would have it wait for them.
func fanout(ctx context.Context, b *bench, k *cluster, seed uint64) ([]float64, error) {
	leader, err := k.leader(ctx)
	if err != nil {
		return nil, err
	}
	spec := b.spec(k, opWatch, 0)
	spec.Keys, spec.Seed = 1, seed
	spec.Watch = watchSpec{Endpoints: k.endpoints(), Keys: 1000, Conns: min(30, b.conns)}
	writer := newKeyWriter(ctx, leader, keyName(0), b.value)
	defer writer.close()
	var r loadResult
	rate, err := writer.rate(func() (err error) {
		r, err = b.drive(ctx, k, spec)
		return err
	})
	return []float64{float64(r.Events) / spec.Duration.Seconds(), rate, r.EventP99, r.ServerCPU / float64(r.Events) * 1e6}, err
}

// scatterPace is how many puts a second scatter makes.
const scatterPace = 500

// scatter is puts of random keys at a pace, all keys being watched.
func scatter(ctx context.Context, b *bench, k *cluster, seed uint64) ([]float64, error) {
	spec, err := b.atLeader(ctx, k, opPut, 50, seed)
	if err != nil {
		return nil, err
	}
	spec.Pace, spec.Watch.Keys, spec.Watch.Conns = scatterPace, 10_000, min(100, b.conns)
	r, err := b.drive(ctx, k, spec)
	return []float64{r.EventP50, r.EventP99, r.ServerCPU / float64(r.Events) * 1e6}, err
}

// beside compares 100 clients that put beside idle watches, and beside stalled
// ones, with what they do without any before and after. The watches are not in the
// clients' process, which is to be the same each time.
func beside(ctx context.Context, b *bench, k *cluster, seed uint64) ([]float64, error) {
	var rates, costs []float64
	for _, watch := range []watchSpec{{}, {Idle: 1000, Conns: min(30, b.conns)}, {}, {Stalled: 10}, {}} {
		spec, err := b.atLeader(ctx, k, opPut, 100, seed)
		if err != nil {
			return nil, err
		}
		holding := spec
		holding.Watch = watch
		holding.Watch.Endpoints, spec.Watch = spec.Watch.Endpoints, watchSpec{}
		var r loadResult
		err = k.holding(ctx, holding, func(ctx context.Context) (err error) {
			r, err = b.drive(ctx, k, spec)
			return err
		})
		if err != nil {
			return nil, err
		}
		rates = append(rates, r.Rate)
		costs = append(costs, r.ServerCPU/float64(r.Requests))
	}
	compared := func(of []float64, i int) float64 { return 2 * of[i] / (of[i-1] + of[i+1]) }
	without := (rates[0] + rates[2] + rates[4]) / 3
	return []float64{without, compared(rates, 1), compared(rates, 3), compared(costs, 1), compared(costs, 3)}, nil
}

// keepAlive is 1,000 clients that renew a lease each, without pause.
func keepAlive(ctx context.Context, b *bench, k *cluster, seed uint64) ([]float64, error) {
	spec := b.spec(k, opKeepAlive, 1000)
	spec.Endpoints, spec.Seed = k.endpoints(), seed
	r, err := b.drive(ctx, k, spec)
	return []float64{r.Rate, r.P99, r.ServerCPU / float64(r.Requests) * 1e6}, err
}

// kubernetesKeys are so few that soon every writer has seen its own.
const kubernetesKeys = 1000

// kubernetes is 100 clients that compare and put, and 50 that list, watch, and
// ask for progress.
func kubernetes(ctx context.Context, b *bench, k *cluster, seed uint64) ([]float64, error) {
	spec, err := b.atLeader(ctx, k, opTxn, 100, seed)
	if err != nil {
		return nil, err
	}
	spec.Keys, spec.Watch.Readers, spec.Watch.Conns = kubernetesKeys, 50, min(50, b.conns)
	r, err := b.drive(ctx, k, spec)
	return []float64{r.Rate, r.Progress, float64(r.Events) / spec.Duration.Seconds()}, err
}

// heldMemory is what each of 10,000 idle watches on 100 streams takes, of all
// members of a cluster that does nothing else, after collecting garbage. That
// can be asked for where profiles are served.
func heldMemory(ctx context.Context, b *bench, other *cluster, _ uint64) ([]float64, error) {
	k, err := b.startCluster(ctx, other.system, "--enable-pprof")
	if err != nil {
		return nil, err
	}
	defer k.stop()
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	spec := b.spec(k, opHold, 1)
	spec.Endpoints = k.endpoints()
	spec.Watch = watchSpec{Endpoints: k.endpoints(), Conns: min(100, b.conns), Idle: 10_000}
	r, err := b.drive(ctx, k, spec)
	return []float64{r.Resident, r.Live}, err
}
