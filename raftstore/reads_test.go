package raftstore

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Reads that come while the node closes, or later, end with ErrStopped or an
// answer, and leave no goroutine behind that Close did not wait for.
func TestNode_readsWhileClosing(t *testing.T) {
	n := openLone(t, t.TempDir(), &toyMachine{})
	lead(t, n)
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for {
				err := n.ReadIndex(context.Background())
				if errors.Is(err, ErrStopped) || errors.Is(err, context.Canceled) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	readers.Wait()
	n.reads.mu.Lock()
	defer n.reads.mu.Unlock()
	if round := n.reads; round.active || round.next != nil {
		t.Fatal("a round goes on after Close")
	}
}

// A round grows while reads come, and tries more and more rarely when they do not.
func TestReadRounds_gather(t *testing.T) { synctest.Test(t, testGather) }

func testGather(t *testing.T) {
	r := newReadRounds(&Node{ctx: t.Context(), metrics: newNodeMetrics(&Config{})})
	r.join() // under way
	// gather returns how many have joined when the last round had so many and took so long.
	gather := func(last int, took time.Duration, joins int) int {
		var joined sync.WaitGroup
		joined.Go(func() {
			for range joins {
				r.join()
			}
		})
		r.gather(last, took)
		r.mu.Lock()
		had := 0
		if r.next != nil {
			had = r.next.reads
		}
		r.mu.Unlock()
		joined.Wait()
		r.take()
		r.join()
		return had
	}
	const long, short = time.Minute, time.Millisecond
	if had := gather(1, long, 0); had != 0 {
		t.Fatalf("of a single read no other is waited for, but %d joined", had)
	}
	if had := gather(4, long, 4); had != 4 {
		t.Fatalf("%d had joined, want as many as the last round had", had)
	}
	if had := gather(20, long, 30); had < 30 {
		t.Fatalf("%d had joined, want half as many again", had)
	}
	tries := 0
	for range 200 {
		if r.calm == 0 {
			tries++
		}
		gather(gatherMany, short, gatherMany)
	}
	if tries < 2 || tries > 10 {
		t.Fatalf("of 200 rounds without more reads %d tried to grow", tries)
	}
}
