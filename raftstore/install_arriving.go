package raftstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// arriving is a snapshot that a peer sends.
type arriving struct {
	peer   *remote
	id     uint64 // of the request
	req    *raft.InstallSnapshotRequest
	pieces chan frame // chunks and the first end
	ctx    context.Context
	cancel context.CancelCauseFunc

	got   atomic.Int64 // bytes written
	whole bool         // all of it is here: ends are signs of life; installer.mu
	final bool         // its swap has begun; written with installer.mu held
}

// report is what is under way.
func (in *installer) report() *conclavepb.RaftInstall {
	r := &conclavepb.RaftInstall{Sending: len(in.node.sending) > 0}
	in.mu.Lock()
	defer in.mu.Unlock()
	if a := in.current; a != nil {
		r.ReceivingFrom, r.ReceivingIndex = a.peer.text, a.req.LastLogIndex
		r.ReceivingBytes, r.TotalBytes = a.got.Load(), a.req.Size
	}
	return r
}

// receiveSnapshot takes a frame of an install. It does not block.
func (m *Mesh) receiveSnapshot(r *remote, f frame) {
	in := m.installs.Load()
	if in == nil || in.node.cfg.State == "" {
		r.refuseRequest(f, CodeNoHandler, "no snapshots are taken here")
		return
	}
	if f.kind == kindSnapshot {
		in.arrive(r, f)
		return
	}
	in.piece(r, f)
}

// arrive takes a request to install, in place of one of the same or an earlier
// term: its sender has given that up, or leads no more.
func (in *installer) arrive(r *remote, f frame) {
	command, err := decodeRequest(f.kind, f.payload)
	req, ok := command.(*raft.InstallSnapshotRequest)
	if err != nil || !ok || req.Size < 0 {
		r.refuseRequest(f, CodeFailed, "malformed request for a snapshot")
		return
	}
	if string(req.ID) != memberText(r.id) {
		r.refuseRequest(f, CodeFailed, fmt.Sprintf("member %x speaks for %q", r.id, req.ID))
		return
	}
	a := &arriving{peer: r, id: f.id, req: req, pieces: make(chan frame, chunksAtOnce+1)}
	a.ctx, a.cancel = context.WithCancelCause(in.node.ctx)
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, other := range []*arriving{in.current, in.next} {
		if other == nil {
			continue
		}
		if other.peer.id == r.id && other.id == f.id { // the same frame again
			a.cancel(errNewerSnapshot)
			return
		}
		if other.final || other.req.Term > req.Term {
			a.cancel(errNewerSnapshot)
			r.refuseRequest(f, CodeBusy, "another snapshot is being installed")
			return
		}
	}
	if in.current != nil {
		in.current.cancel(errNewerSnapshot)
	}
	if old := in.next; old != nil {
		old.cancel(errNewerSnapshot)
		old.peer.refuseRequest(frame{typ: frameRequest, id: old.id}, CodeBusy, errNewerSnapshot.Error())
	}
	in.next = a
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// piece takes a chunk or an end. A sender keeps to chunksAtOnce.
func (in *installer) piece(r *remote, f frame) {
	if len(f.payload) < 8 || len(f.payload) > chunkHead+chunkBytes {
		r.refuseRequest(f, CodeFailed, "malformed piece of a snapshot")
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	a := in.find(r.id, binary.BigEndian.Uint64(f.payload))
	if a == nil {
		r.refuseRequest(f, CodeFailed, "no such snapshot is expected")
		return
	}
	if a.whole {
		if out := newOutFrame(frameResponse, f.id, 0, 0, 0); f.kind == kindSnapshotEnd && out.seal() == nil {
			r.trySend(laneUrgent, out)
		}
		return
	}
	select {
	case a.pieces <- f:
	default:
		r.refuseRequest(f, CodeBusy, "too many chunks of a snapshot at once")
	}
}

// find is called with the lock held.
func (in *installer) find(peer, id uint64) *arriving {
	for _, a := range []*arriving{in.current, in.next} {
		if a != nil && a.peer.id == peer && a.id == id && a.ctx.Err() == nil {
			return a
		}
	}
	return nil
}
