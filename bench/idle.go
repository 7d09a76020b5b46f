package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// calm is how long a started cluster is left alone before it counts as idle.
const calm = 5 * time.Second

// runIdle measures what three members use when nobody asks for anything: one
// system at a time, in turn, each started anew.
func runIdle(ctx context.Context, args []string) error {
	o, err := parseOptions("idle", defaults{systems: led, rounds: 3, duration: time.Minute}, args)
	if err != nil {
		return err
	}
	return withBench(ctx, o, func(ctx context.Context, b *bench) error {
		used := map[string][]float64{}
		for round := range b.rounds {
			for _, system := range b.systems {
				percent, err := b.idleOnce(ctx, system)
				if err != nil {
					return err
				}
				used[system] = append(used[system], percent)
				fmt.Printf("round %2d: %-8s %5.2f %% of a CPU\n", round+1, system, percent)
			}
		}
		fmt.Println("\nIdle, the three members together:")
		fmt.Println("| system   | % of a CPU (min–max) |")
		fmt.Println("|----------|----------------------|")
		for _, system := range b.systems {
			of := used[system]
			fmt.Printf("| %-8s | %-20s |\n", system, fmt.Sprintf("%.2f (%.2f–%.2f)", median(of), slices.Min(of), slices.Max(of)))
		}
		return nil
	})
}

// idleOnce starts a cluster, waits until it is calm, and measures it.
func (b *bench) idleOnce(ctx context.Context, system string) (percent float64, err error) {
	k, err := b.startCluster(ctx, system)
	if err != nil {
		return 0, err
	}
	defer k.stop()
	if err := pause(ctx, calm); err != nil {
		return 0, err
	}
	before, err := cpuOfAll(k.pids())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := pause(ctx, b.duration); err != nil {
		return 0, err
	}
	after, err := cpuOfAll(k.pids())
	return (after - before) / time.Since(began).Seconds() * 100, err
}
