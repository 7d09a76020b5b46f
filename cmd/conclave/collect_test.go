package main

import (
	"context"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

func TestGrowthPercent_bounds(t *testing.T) {
	for alive, grown := range map[uint64]uint64{
		1 << 20: 64 << 20, 32 << 20: 64 << 20, 64 << 20: 64 << 20, 100 << 20: 100 << 20, 150 << 20: 150 << 20, 256 << 20: 224 << 20, 1 << 30: 224 << 20,
	} {
		got := alive * uint64(growthPercent(alive)) / 100
		if got > grown || got < grown-alive/50 {
			t.Errorf("with %d MiB alive the heap may grow by %d MiB, not %d", alive>>20, got>>20, grown>>20)
		}
	}
}

// What is alive changes: the collector is told after the next collection, and
// everything is as before in the end.
func TestPaceCollector_followsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { paceCollector(ctx) })
	set := func() uint64 {
		now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(now)
		return now[0].Value.Uint64()
	}
	await := func(what string, ok func(percent uint64) bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !ok(set()); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: still at %d %%", what, set())
			}
			runtime.GC()
		}
	}
	await("a small heap", func(p uint64) bool { return p > 200 })
	held := make([]byte, 400<<20)
	await("a large heap", func(p uint64) bool { return p < 60 })
	held[0] = 1
	cancel()
	work.Wait()
	if p := set(); p != 100 {
		t.Errorf("left at %d %%", p)
	}
}
