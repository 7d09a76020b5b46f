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
	// stuckLooks is how often these are looked at in an election timeout.
	stuckLooks = 8
)

// leads is what the mesh asks before each sign of a leader's life leaves.
func (n *Node) leads() bool {
	return n.logs.Stuck() < n.cfg.ElectionTimeout/stuckShare
}

// followDisk has others take over when the disk of the log hangs, and ends the
// process when it hangs for long.
func (n *Node) followDisk() {
	look := time.NewTicker(n.cfg.ElectionTimeout / stuckLooks)
	defer look.Stop()
	var told Leadership
	for {
		select {
		case <-look.C:
		case <-n.ctx.Done():
			return
		}
		stuck := n.logs.Stuck()
		if stuck >= n.cfg.ElectionTimeout/hungShare {
			if lead := n.leadership(); lead.Leader == n.cfg.Self && lead != told {
				told = lead
				n.tellHung(lead)
			}
		}
		if stuck >= stuckLimit {
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
