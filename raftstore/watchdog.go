package raftstore

import (
	"fmt"
	"time"
)

const (
	// stuckShare of the election timeout is how long a write to the log may take
	// before this member stops leading: followers then hear nothing of it and
	// look for a new leader. Raft itself would send heartbeats for ever
	// (hashicorp/raft issue 503).
	stuckShare = 4
	// stuckLimit is how long before the process ends, so that whoever watches it
	// sees that the disk hangs.
	stuckLimit = 10 * time.Second
	// stuckLook is how often the limit is checked.
	stuckLook = time.Second
)

// leads is what the mesh asks before each sign of a leader's life leaves.
func (n *Node) leads() bool {
	return n.logs.Stuck() < n.cfg.ElectionTimeout/stuckShare
}

// followDisk ends the process when the disk of the log hangs.
func (n *Node) followDisk() {
	look := time.NewTicker(stuckLook)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-n.ctx.Done():
			return
		}
		if stuck := n.logs.Stuck(); stuck >= stuckLimit {
			err := fmt.Errorf("a write to the log in %s has been under way for %v: the disk hangs; repair it, then start this member again",
				n.cfg.Dir, stuck.Round(time.Second))
			n.cfg.Log.Error().Err(err).Msg("giving up")
			if n.cfg.Fatal != nil {
				n.cfg.Fatal(err)
			}
			return
		}
	}
}
