package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// atRest is the most processor time that a system takes which has nothing to do,
	// in seconds for each second.
	atRest = 0.1
	// restTimeout bounds the wait for it.
	restTimeout = 2 * time.Minute
)

// trial is a load that several things are measured of, and not only its rate.
type trial struct {
	name     string
	empty    bool   // the empty server can answer it
	only     string // of one system; empty: of all
	measures []measure
	once     func(context.Context, *bench, *cluster, uint64) ([]float64, error) // one value for each measure; the seed decides keys
}

// runTrials runs loads on what runs by now, one after the other, and prints them.
func (b *bench) runTrials(ctx context.Context, loads []trial) error {
	printMeasureHeader()
	running := slices.Clone(b.clusters) // a load may start more
	for _, load := range loads {
		if err := b.runTrial(ctx, load, running); err != nil {
			return err
		}
	}
	return nil
}

// runTrial runs one in rounds of all systems and prints its rows.
func (b *bench) runTrial(ctx context.Context, load trial, running []*cluster) error {
	values := map[string][][]float64{} // by system: a list for each measure
	for round := range b.rounds {
		for _, k := range running {
			if k.system == emptySystem && !load.empty || load.only != "" && load.only != k.system {
				continue
			}
			if err := b.rest(ctx); err != nil {
				return err
			}
			got, err := load.once(ctx, b, k, uint64(round))
			if err != nil {
				return fmt.Errorf("%s on %s: %w", load.name, k.system, err)
			}
			if values[k.system] == nil {
				values[k.system] = make([][]float64, len(got))
			}
			for i, v := range got {
				values[k.system][i] = append(values[k.system][i], v)
			}
		}
	}
	for i, m := range load.measures {
		column := map[string][]float64{}
		for system, lists := range values {
			column[system] = lists[i]
		}
		m.print(load.name, b.systems, column)
	}
	return nil
}

// atLeader is a spec of clients at the leader; watches are spread over the
// members.
func (b *bench) atLeader(ctx context.Context, k *cluster, op string, clients int, seed uint64) (loadSpec, error) {
	leader, err := k.leader(ctx)
	if err != nil {
		return loadSpec{}, err
	}
	spec := b.spec(k, op, clients)
	spec.Seed, spec.Endpoints, spec.Watch.Endpoints = seed, []string{leader.client}, k.endpoints()
	return spec, nil
}

// rest waits until every system has done what earlier loads left behind: etcd, for
// one, goes on for a while about leases that are gone.
func (b *bench) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	for _, k := range b.clusters {
		for busy := !k.stopped; busy; {
			before, err := cpuOfAll(k.pids())
			if err != nil {
				return err
			}
			if err := pause(ctx, time.Second); err != nil {
				return fmt.Errorf("%s does not come to rest: %w", k.system, err)
			}
			after, err := cpuOfAll(k.pids())
			if err != nil {
				return err
			}
			busy = after-before > atRest
		}
	}
	return nil
}
