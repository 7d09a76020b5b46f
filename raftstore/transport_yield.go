package raftstore

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// yieldShare of the election timeout is how long a member that has promised
// another one its vote waits before it asks for votes itself.
const yieldShare = 4

// promise is when this member promised its vote last. While the other's request
// for the vote is on its way, or is being written to a disk, this member's own
// timer may end. Then each would vote for itself, and both would have to wait for
// another timer, twice as long.
type promise struct{ at atomic.Int64 } // since the mesh's start

func (t *Transport) promised(reply raft.RPCResponse) {
	if r, ok := reply.Response.(*raft.RequestPreVoteResponse); ok && r.Granted {
		t.promise.at.Store(int64(time.Since(t.mesh.start)))
	}
}

// yield waits until a promise is old.
func (t *Transport) yield() error {
	at := time.Duration(t.promise.at.Load())
	if at == 0 {
		return nil
	}
	wait := time.NewTimer(at + t.mesh.cfg.ElectionTimeout/yieldShare - time.Since(t.mesh.start))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-t.done:
		return errTransportClosed
	}
}
