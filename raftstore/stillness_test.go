package raftstore

import (
	"context"
	"sync"
	"testing"
	"time"
)

// stillness notes for how long nothing of this process ran: a busy machine, or
// one that was stopped, says nothing about what must not take long.
type stillness struct {
	mu      sync.Mutex
	longest time.Duration
}

const stillnessTick = 5 * time.Millisecond

// watchStillness goes on until the test ends.
func watchStillness(t *testing.T) *stillness {
	s := &stillness{}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		for last := time.Now(); ctx.Err() == nil; {
			sleepContext(ctx, stillnessTick)
			now := time.Now()
			s.mu.Lock()
			s.longest = max(s.longest, now.Sub(last)-stillnessTick)
			s.mu.Unlock()
			last = now
		}
	})
	t.Cleanup(func() { cancel(); work.Wait() })
	return s
}

// excuses ends the test, as one that shows nothing, if the machine stood still
// for longer than limit.
func (s *stillness) excuses(t *testing.T, limit time.Duration) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.longest > limit {
		t.Skipf("the machine stood still for %v: what took long meanwhile says nothing", s.longest)
	}
}
