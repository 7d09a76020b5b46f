package raftstore

import (
	"context"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// maxFormer bounds the former peers that a mesh remembers by itself.
const maxFormer = 256

// KnowRemoved tells of who knows which ids were removed from the cluster, for
// ever. Their hellos are refused with ErrRemoved, and what connections they have
// end after a grace. It may be called at any time; removed must not block.
func (m *Mesh) KnowRemoved(removed func(id uint64) bool) {
	m.removed.Store(&removed)
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, r := range m.remotes {
		if !r.listed() && removed(id) {
			m.leaveLocked(r)
		}
	}
}

func (m *Mesh) isRemoved(id uint64) bool {
	removed := m.removed.Load()
	return removed != nil && (*removed)(id)
}

// former refuses an id that was removed, or that left the peers of this member
// without being known as removed: it may come back. An id never heard of is not
// refused: it may belong to a member that was added since this one last heard
// of a change, perhaps the very leader that has to tell it.
func (m *Mesh) former(id uint64) error {
	if m.isRemoved(id) {
		return refuse(conclavepb.PeerRefusal_REMOVED, "member %x was removed from the cluster; "+
			"to use its host again, add a member (member add) and start it with an empty data directory", id)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left[id] {
		return refuse(conclavepb.PeerRefusal_NOT_MEMBER, "member %x is no longer in the member table of member %x", id, m.cfg.Self)
	}
	return nil
}

// leaveLocked stops dialling a member that is no longer a peer. What connections
// there are stay for a grace, so that it can still be told that it was removed.
// m.mu is held.
func (m *Mesh) leaveLocked(r *remote) {
	if len(m.left) >= maxFormer {
		clear(m.left)
	}
	m.left[r.id] = true
	leave, connected := r.leave()
	if !connected {
		m.dropLocked(r)
		return
	}
	if leave == nil {
		return // it is leaving already
	}
	m.wg.Go(func() {
		sleepContext(leave, m.limits.grace)
		m.mu.Lock()
		defer m.mu.Unlock()
		if leave.Err() == nil {
			m.dropLocked(r)
		}
	})
}

func (m *Mesh) dropLocked(r *remote) {
	delete(m.remotes, r.id)
	r.remove()
}

// leave stops the dialling. Unless it is leaving already, the context is that
// of its grace, and ends early when it is listed again.
func (r *remote) leave() (leave context.Context, connected bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopDial != nil {
		r.stopDial()
		r.stopDial = nil
	}
	if r.stay == nil {
		leave, r.stay = context.WithCancel(r.mesh.ctx)
	}
	return leave, r.in != nil || r.out != nil
}
