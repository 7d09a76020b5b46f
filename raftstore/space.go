package raftstore

import (
	"context"
	"path/filepath"
	"syscall"
	"time"
)

// spaceLook is how often a member asks the others about the space on their
// disks. At the rate of a fast disk, what they keep free lasts a little longer.
const spaceLook = 2 * time.Second

// Full reports whether no more should be written: the disk of this member's log
// or of another voter's, as far as they answer, is nearly full. A log that cannot
// be written ends its process, and a member that is removed or gets room again
// counts no more within two seconds.
func (n *Node) Full() bool { return n.LowSpace() || n.othersLow.Load() }

// LowSpace reports whether a disk of this member is nearly full, that of the log
// or that of the state file, so that it should not be asked to write more. It is
// cheap, and at most a second old.
func (n *Node) LowSpace() bool { return n.logs.lowSpace() || n.stateSpace.isLow() }

// watchState watches the disk of the state file where that is not the log's.
func (n *Node) watchState() {
	n.stateSpace.base = time.Now()
	dir := filepath.Dir(n.cfg.State)
	var state, log syscall.Stat_t
	if n.cfg.State == "" || syscall.Stat(dir, &state) != nil || syscall.Stat(n.cfg.Dir, &log) != nil || state.Dev == log.Dev {
		return
	}
	n.stateSpace.free = func() (int64, error) { return freeSpace(dir) }
}

// followSpace asks the other voters about their space.
func (n *Node) followSpace() {
	look := time.NewTicker(spaceLook)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-n.ctx.Done():
			return
		}
		low := n.anyLow(n.otherVoters())
		if was := n.othersLow.Swap(low); low != was {
			n.cfg.Log.Warn().Bool("low", low).Msg("space on the disk of another member")
		}
	}
}

// anyLow asks members at once whether their disks are nearly full.
func (n *Node) anyLow(ids []uint64) bool {
	ctx, cancel := context.WithTimeout(n.ctx, spaceLook)
	defer cancel()
	answers := make(chan bool, len(ids))
	for _, id := range ids {
		go func() {
			l, err := n.Level(ctx, id)
			answers <- err == nil && l.LowSpace
		}()
	}
	low := false
	for range ids {
		low = <-answers || low
	}
	return low
}
