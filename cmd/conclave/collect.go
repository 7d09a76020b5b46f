package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How much the heap may grow, in bytes, from what was alive at one garbage
// collection to the next one. Go's own rule is as much again as is alive, which
// collects a small store for nothing many times a second, and lets one of half a
// gibibyte take a gibibyte.
const (
	minGrowth = 64 << 20
	maxGrowth = 224 << 20
)

// growthPercent is what to tell Go's collector when so many bytes are alive.
func growthPercent(alive uint64) int {
	alive = max(alive, 1<<20)
	growth := min(max(alive, minGrowth), maxGrowth)
	return int(growth * 100 / alive)
}

// paceCollector keeps to the bounds above until ctx is done, unless the user has
// set GOGC. It looks at the heap after each collection.
func paceCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	collected := make(chan struct{}, 1)
	collected <- struct{}{}
	announceCollections(ctx, collected)
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last := 100
	defer func() { debug.SetGCPercent(100) }()
	for {
		select {
		case <-collected:
		case <-ctx.Done():
			return
		}
		metrics.Read(alive)
		// Setting it stops everybody for a moment: not for less than a tenth.
		if percent := growthPercent(alive[0].Value.Uint64()); percent*10 < last*9 || percent*10 > last*11 {
			debug.SetGCPercent(percent)
			last = percent
		}
	}
}

// announceCollections signals on c after each collection: what nobody refers to
// is cleaned up then, and cleaning it up makes the next one.
func announceCollections(ctx context.Context, c chan<- struct{}) {
	type canary struct{ _ [16]byte }
	var arm func(struct{})
	arm = func(struct{}) {
		select {
		case c <- struct{}{}:
		default:
		}
		if ctx.Err() == nil {
			runtime.AddCleanup(&canary{}, arm, struct{}{})
		}
	}
	runtime.AddCleanup(&canary{}, arm, struct{}{})
}
