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

// idleInterval is how often the committer of an idle member looks whether there is
// anything to write although nobody said so.
const idleInterval = time.Second

// committer writes what was applied to the state file, in the background. While
// nothing is applied it sleeps.
type committer struct {
	m       *Member
	applied chan struct{} // something was, since it last woke up
	full    chan struct{}

	mu        sync.Mutex
	committed chan struct{} // closed after the next commit
}

func newCommitter(m *Member) *committer {
	return &committer{
		m: m, applied: make(chan struct{}, 1), full: make(chan struct{}, 1),
		committed: make(chan struct{}),
	}
}

// kick is called after each publication; it never blocks.
func (c *committer) kick() {
	wake(c.applied)
	if c.m.machine.Queued() >= commitRecords {
		wake(c.full)
	}
}

func wake(sleeper chan<- struct{}) {
	select {
	case sleeper <- struct{}{}:
	default:
	}
}

// run commits until the member stops. The Machine's Close commits the rest.
func (c *committer) run() {
	wait := time.NewTimer(commitInterval) // for what the start left to do
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-c.full:
		case <-c.m.ctx.Done():
			return
		}
		more := c.prune()
		start, queued := time.Now(), c.m.machine.Queued() > 0
		if err := c.m.machine.Commit(); err != nil {
			c.m.cfg.Fatal(err)
			return
		}
		if queued {
			c.m.metrics.commits.Observe(time.Since(start).Seconds())
		}
		c.announce()
		if !more {
			wait.Reset(idleInterval)
			select {
			case <-c.applied:
			case <-wait.C:
			case <-c.m.ctx.Done():
				return
			}
		}
		wait.Reset(commitInterval)
	}
}

// prune reports whether a compaction has left more to remove.
func (c *committer) prune() bool {
	for range prunesPerTick {
		if !c.m.machine.Prune() {
			return false
		}
	}
	return true
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
