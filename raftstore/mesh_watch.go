package raftstore

import "errors"

// ErrHeldBack: this member's watchdog lets no sign of life out at present;
// nothing was sent.
var ErrHeldBack = errors.New("raftstore: the watchdog holds messages of leaders and candidates back")

// Watch has alive asked before each message by which a member leads or wants to:
// appends, heartbeats among them, commit indexes, snapshots, and requests for
// votes. While it returns false none leaves, and the others elect a leader that
// works; answers and the calls of Mesh.Call travel as ever. alive must not
// block. It may be set at any time; nil lets everything through.
func (m *Mesh) Watch(alive func() bool) {
	if alive == nil {
		m.alive.Store(nil)
		return
	}
	m.alive.Store(&alive)
}

// maySend asks the watchdog whether a message of raft may leave.
func (m *Mesh) maySend(kind Kind) error {
	alive := m.alive.Load()
	if alive == nil || kind == kindTimeoutNow || (*alive)() {
		return nil
	}
	if kind == kindAppend {
		m.metrics.heldBack.Inc()
	}
	return ErrHeldBack
}
