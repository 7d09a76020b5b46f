package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// printMachine says what the numbers depend on.
func (b *bench) printMachine() error {
	fsync, err := fsyncMillis(b.dir)
	if err != nil {
		return fmt.Errorf("measure fsync in -dir: %w", err)
	}
	transport := "plaintext"
	switch {
	case b.mtls:
		transport = "mutual TLS"
	case b.mtlsOnly != "":
		transport = "mutual TLS for " + b.mtlsOnly + " only"
	}
	fmt.Printf("%d CPUs, %s/%s, %s; fsync of 4 KiB %.2f ms (median)\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), fsync)
	disks := "on the real disk"
	switch {
	case b.fsyncDelay > 0:
		disks = fmt.Sprintf("each on a disk of its own (FUSE) with %s added to every fsync", b.fsyncDelay)
	case b.needsDisks():
		disks = "each on a disk of its own (FUSE)"
	}
	fmt.Printf("%d members each, all on this machine, %s, %s, defaults; %d keys, values of %d bytes; %d rounds of %s each\n\n",
		members, disks, transport, b.keys, b.value, b.rounds, b.duration)
	return nil
}

// printIdle measures, as long as a load, what each system uses when nobody
// asks for anything.
func (b *bench) printIdle(ctx context.Context) error {
	before := make([]float64, len(b.clusters))
	for i, k := range b.clusters {
		var err error
		if before[i], err = cpuOfAll(k.pids()); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.duration):
	}
	fmt.Print("Idle, all three servers of a system together:")
	for i, k := range b.clusters {
		after, err := cpuOfAll(k.pids())
		if err != nil {
			return err
		}
		fmt.Printf(" %s %.1f %%", k.system, (after-before[i])/b.duration.Seconds()*100)
	}
	fmt.Print(" of a CPU\n\n")
	return nil
}

func printHeader() {
	fmt.Println("| load            | system   | requests/s (min–max)       | p50 ms | p99 ms | server CPU s/1000 | rate ÷ etcd | rate ÷ empty |")
	fmt.Println("|-----------------|----------|----------------------------|--------|--------|-------------------|-------------|--------------|")
}

// printRows prints one load's row for every system, in Markdown.
func printRows(s shape, systems []string, results map[string][]loadResult) {
	var beside []string
	for _, system := range systems {
		of := results[system]
		if len(of) == 0 {
			continue
		}
		rates := column(of, rateOf)
		fmt.Printf("| %-15s | %-8s | %-26s | %6.2f | %6.2f | %17.3f | %11s | %12s |\n", s.name, system,
			fmt.Sprintf("%.0f (%.0f–%.0f)", median(rates), slices.Min(rates), slices.Max(rates)),
			median(column(of, func(r loadResult) float64 { return r.P50 })),
			median(column(of, func(r loadResult) float64 { return r.P99 })),
			median(column(of, cpuOf)),
			ratioTo(etcdSystem, system, rates, results), ratioTo(emptySystem, system, rates, results))
		if s.writers > 0 {
			writes := column(of, func(r loadResult) float64 { return r.Writes })
			beside = append(beside, fmt.Sprintf("%s %.0f", system, median(writes)))
		}
	}
	if len(beside) > 0 {
		fmt.Printf("\nBeside %s, puts/s: %s\n\n", s.name, strings.Join(beside, ", "))
	}
	if ours, theirs := results[conclaveSystem], results[earlierSystem]; len(ours) > 0 && len(theirs) > 0 {
		fmt.Printf("\nAgainst earlier, %s: rate %.3f, server CPU per request %.3f\n\n", s.name,
			pairedRatio(column(ours, rateOf), column(theirs, rateOf)), pairedRatio(column(ours, cpuOf), column(theirs, cpuOf)))
	}
}

func rateOf(r loadResult) float64 { return r.Rate }

// cpuOf is the servers' processor time for 1,000 requests, in seconds.
func cpuOf(r loadResult) float64 { return r.ServerCPU / float64(r.Requests) * 1000 }

// ratioTo is the paired ratio of a system's rates to another's; empty for
// itself and when the other was not measured.
func ratioTo(other, system string, rates []float64, results map[string][]loadResult) string {
	theirs := results[other]
	if other == system || len(theirs) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", pairedRatio(rates, column(theirs, rateOf)))
}

func column(results []loadResult, value func(loadResult) float64) []float64 {
	var values []float64
	for _, r := range results {
		values = append(values, value(r))
	}
	return values
}
