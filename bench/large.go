package main

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// settle is how long a cluster is left alone before its memory is looked at.
const settle = 5 * time.Second

// settleDisk is how long a cluster is left alone after it was filled: the kernel
// has then written most of what it holds back.
const settleDisk = 10 * time.Second

// looks is how many times each rate of a round is measured; fewKeys is how many
// keys the store has that the full one is compared with.
const (
	looks   = 5
	fewKeys = 10_000
)

// fillLimit bounds the filling of a store.
const fillLimit = 20 * time.Minute

// largeResult is what was measured of one cluster with many keys.
type largeResult struct {
	empty, full     float64 // puts per second into a store of few keys and the filled one
	ratio           float64 // of full to empty, in pairs
	loaded, started memory  // of a member after the load and after a restart: the mean
	restart         time.Duration
}

// runLarge measures what many keys cost: memory, the rate of puts, a restart.
func runLarge(ctx context.Context, args []string) error {
	o, err := parseOptions("large", defaults{systems: led, rounds: 5, duration: 2 * time.Second, keys: 1_000_000}, args)
	if err != nil {
		return err
	}
	return withBench(ctx, o, func(ctx context.Context, b *bench) error {
		results := map[string][]largeResult{}
		for round := range b.rounds {
			for _, system := range b.systems {
				r, err := b.largeOnce(ctx, system)
				if err != nil {
					return fmt.Errorf("%s: %w", system, err)
				}
				results[system] = append(results[system], r)
				fmt.Printf("round %2d: %-8s %s\n", round+1, system, r)
			}
		}
		printLarge(b.systems, results)
		return nil
	})
}

func (r largeResult) String() string {
	return fmt.Sprintf("%.0f puts/s with few keys, %.0f full (ratio %.2f), a member's memory %.0f MiB (private %.0f), after a restart %.0f MiB (private %.0f), restart %.2f s",
		r.empty, r.full, r.ratio, r.loaded.now, r.loaded.private, r.started.now, r.started.private, r.restart.Seconds())
}

// largeOnce fills a new cluster, compares it with an empty one, and restarts all
// of its members together.
func (b *bench) largeOnce(ctx context.Context, system string) (r largeResult, err error) {
	k, err := b.startCluster(ctx, system)
	if err != nil {
		return r, err
	}
	defer k.stop()
	fill := b.spec(k, opBulk, stateClients)
	fill.Endpoints, fill.Duration = k.endpoints(), fillLimit
	if _, err := b.drive(ctx, k, fill); err != nil {
		return r, err
	}
	// What the filling has left for the disk to write is not what is measured.
	if err := pause(ctx, settleDisk); err != nil {
		return r, err
	}
	if err := b.compareRates(ctx, k, &r); err != nil {
		return r, err
	}
	if r.loaded, err = k.memory(ctx); err != nil {
		return r, err
	}
	if r.restart, err = k.restart(ctx); err != nil {
		return r, err
	}
	r.started, err = k.memory(ctx)
	return r, err
}

// compareRates measures the rate of puts into a full cluster and into one of few
// keys in turns: what a machine does to one of the two a minute later would be
// more than the difference.
func (b *bench) compareRates(ctx context.Context, full *cluster, r *largeResult) error {
	empty, err := b.startCluster(ctx, full.system)
	if err != nil {
		return err
	}
	defer empty.stop()
	var rates, fullRates []float64
	for range looks {
		for _, k := range []*cluster{empty, full} {
			put := b.spec(k, opPut, 1000)
			put.Endpoints = k.endpoints()
			if k == empty {
				put.Keys = fewKeys
			}
			result, err := b.drive(ctx, k, put)
			if err != nil {
				return err
			}
			if k == empty {
				rates = append(rates, result.Rate)
			} else {
				fullRates = append(fullRates, result.Rate)
			}
		}
	}
	r.empty, r.full, r.ratio = median(rates), median(fullRates), pairedRatio(fullRates, rates)
	return nil
}

// memory is the mean of the members', when they have been left alone for a
// while.
func (k *cluster) memory(ctx context.Context) (mean memory, err error) {
	if err := pause(ctx, settle); err != nil {
		return mean, err
	}
	for _, pid := range k.pids() {
		m, err := memoryOf(pid)
		if err != nil {
			return mean, err
		}
		mean.now += m.now / float64(len(k.members))
		mean.private += m.private / float64(len(k.members))
	}
	return mean, nil
}

// restart stops all members and starts them; it returns the time from there
// until each has answered a linearizable read.
func (k *cluster) restart(ctx context.Context) (time.Duration, error) {
	for _, m := range k.members {
		m.proc.stop()
	}
	began := time.Now()
	for _, m := range k.members {
		if err := k.start(m); err != nil {
			return 0, err
		}
	}
	for _, m := range k.members {
		err := await(ctx, fmt.Sprintf("%s %s to answer a get", k.system, m.name), func(ctx context.Context) error {
			_, err := pb.NewKVClient(m.conn).Range(ctx, &pb.RangeRequest{Key: []byte(keyName(0))})
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func printLarge(systems []string, results map[string][]largeResult) {
	fmt.Println("\nMany keys (medians; memory of one member, in parentheses what is not pages of mapped files):")
	fmt.Println("| system   | puts/s, few keys | filled | ratio | resident MiB after the load | after a restart | restart s |")
	fmt.Println("|----------|------------------|--------|-------|-----------------------------|-----------------|-----------|")
	for _, s := range systems {
		column := func(value func(largeResult) float64) float64 {
			var values []float64
			for _, r := range results[s] {
				values = append(values, value(r))
			}
			return median(values)
		}
		resident := func(of func(largeResult) memory) string {
			return fmt.Sprintf("%.0f (%.0f)", column(func(r largeResult) float64 { return of(r).now }),
				column(func(r largeResult) float64 { return of(r).private }))
		}
		fmt.Printf("| %-8s | %16.0f | %6.0f | %5.2f | %27s | %15s | %9.2f |\n", s,
			column(func(r largeResult) float64 { return r.empty }), column(func(r largeResult) float64 { return r.full }),
			column(func(r largeResult) float64 { return r.ratio }),
			resident(func(r largeResult) memory { return r.loaded }), resident(func(r largeResult) memory { return r.started }),
			column(func(r largeResult) float64 { return r.restart.Seconds() }))
	}
}
