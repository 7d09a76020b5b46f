package member

import (
	"context"
	"sync"
	"time"
)

// The state file is at most this far behind what was applied.
const (
	commitInterval = 100 * time.Millisecond
	commitRecords  = 10000
)

// prunesPerTick bounds what is removed after a compaction at each tick, beside
// what writes remove: some ten thousand keys a tick.
const prunesPerTick = 32

// committer writes what was applied to the state file, in the background.
type committer struct {
	m    *Member
	full chan struct{}

	mu        sync.Mutex
	committed chan struct{} // closed after the next commit
}

func newCommitter(m *Member) *committer {
	return &committer{m: m, full: make(chan struct{}, 1), committed: make(chan struct{})}
}

// kick is called after each publication; it never blocks.
func (c *committer) kick() {
	if c.m.machine.Queued() < commitRecords {
		return
	}
	select {
	case c.full <- struct{}{}:
	default:
	}
}

// run commits until the member stops. The Machine's Close commits the rest.
func (c *committer) run() {
	tick := time.NewTicker(commitInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.full:
		case <-c.m.ctx.Done():
			return
		}
		for range prunesPerTick {
			if !c.m.machine.Prune() {
				break
			}
		}
		start, queued := time.Now(), c.m.machine.Queued() > 0
		if err := c.m.machine.Commit(); err != nil {
			c.m.cfg.Fatal(err)
			return
		}
		if queued {
			c.m.metrics.commits.Observe(time.Since(start).Seconds())
		}
		c.announce()
	}
}

func (c *committer) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.committed)
	c.committed = make(chan struct{})
}

// await returns when a condition on the state file holds.
func (c *committer) await(ctx context.Context, holds func() bool) error {
	for {
		c.mu.Lock()
		committed := c.committed
		c.mu.Unlock()
		if holds() {
			return nil
		}
		select {
		case <-committed:
		case <-ctx.Done():
			return contextError(ctx)
		case <-c.m.ctx.Done():
			return ErrStopped
		}
	}
}
