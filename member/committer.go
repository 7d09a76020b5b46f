package member

import "time"

// The state file is at most this far behind what was applied.
const (
	commitInterval = 100 * time.Millisecond
	commitRecords  = 10000
)

// committer writes what was applied to the state file, in the background.
type committer struct {
	m    *Member
	full chan struct{}
}

func newCommitter(m *Member) *committer {
	return &committer{m: m, full: make(chan struct{}, 1)}
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
		if err := c.m.machine.Commit(); err != nil {
			c.m.cfg.Fatal(err)
			return
		}
	}
}
