package member

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// commitInterval is how long after the first change a commit begins, so that
	// one transaction serves all in between.
	commitInterval = 100 * time.Millisecond
	// commitStuck is how long one commit may take before the process ends: the
	// disk hangs, and whoever watches the process sees it.
	commitStuck = 10 * time.Second
	// maxBacklog is how many applied bytes may wait for the state file before new
	// requests are refused: half of where applying itself would have to wait.
	maxBacklog = 128 << 20
)

// prunesPerCommit bounds what is removed after a compaction with each commit,
// beside what writes remove: some ten thousand keys.
const prunesPerCommit = 32

// committer writes what was applied to the state file, in the background. It
// sleeps while there is nothing to write.
type committer struct {
	m     *Member
	work  chan struct{} // something is to be written
	full  chan struct{} // so much that it should not wait
	stuck time.Duration // commitStuck, less in tests
	write func() error  // the Machine's Commit

	took atomic.Int64 // by the last commit, in nanoseconds

	mu        sync.Mutex
	committed chan struct{} // closed after the next commit
}

func newCommitter(m *Member) *committer {
	return &committer{
		m: m, work: make(chan struct{}, 1), full: make(chan struct{}, 1),
		stuck: commitStuck, write: m.machine.Commit, committed: make(chan struct{}),
	}
}

// kick is called after each publication; it never blocks.
func (c *committer) kick() {
	signal(c.work)
	if _, due := c.m.machine.Pending(); due {
		signal(c.full)
	}
}

// flush has what waits written without waiting for more.
func (c *committer) flush() {
	signal(c.full)
	signal(c.work)
}

// signal wakes the receiver of a channel with room for one signal.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run commits until the member stops. The Machine's Close commits the rest.
func (c *committer) run() {
	signal(c.work) // for what was replayed
	wait := time.NewTimer(commitInterval)
	defer wait.Stop()
	for {
		select {
		case <-c.work:
		case <-c.m.ctx.Done():
			return
		}
		wait.Reset(commitInterval)
		select {
		case <-wait.C:
		case <-c.full:
		case <-c.m.ctx.Done():
			return
		}
		if err := c.commit(); err != nil {
			c.m.cfg.Fatal(err)
			return
		}
		c.announce()
	}
}

// commit prunes, unless that is done apart, and writes. When it hangs, nobody can end it; so a timer ends
// the process.
func (c *committer) commit() error {
	if !c.m.prunesApart() {
		c.prune()
	}
	some, _ := c.m.machine.Pending()
	if !some {
		return nil
	}
	if c.m.started.Load() && c.m.node.LowSpace() {
		c.m.machine.EndBackups("the disk of this member is nearly full, and snapshots keep space")
	}
	hangs := time.AfterFunc(c.stuck, func() {
		c.m.cfg.Fatal(fmt.Errorf("a write to the state file %s has been under way for %v: the disk hangs; repair it, then start this member again", c.m.machine.Path(), c.stuck))
	})
	defer hangs.Stop()
	start := time.Now()
	err := c.write()
	c.took.Store(int64(time.Since(start)))
	c.m.metrics.commits.Observe(c.last().Seconds())
	if err == nil {
		c.m.compactions.committed(c.last())
	}
	return err
}

// prune takes the next steps in removing history.
func (c *committer) prune() {
	for n := 0; c.m.pruneStep(); n++ {
		if n == prunesPerCommit {
			signal(c.work)
			break
		}
	}
}

// last is how long the last commit took.
func (c *committer) last() time.Duration { return time.Duration(c.took.Load()) }

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
