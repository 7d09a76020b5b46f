package raftstore

import (
	"errors"
	"time"
)

// Duplicate yields an error that wraps ErrDuplicate when peers have refused this
// member for ten seconds in a row, because another process runs under its id,
// and no more peers than these hold a connection with it: then this process has
// to end. The error says where the other one is. A process that was replaced
// after it gave no sign of life for half an election timeout learns it so too.
func (m *Mesh) Duplicate() <-chan error { return m.duplicate }

// dialled notes how a dial to the peer ended.
func (r *remote) dialled(err error) {
	var refused *RefusedError
	duplicate := errors.As(err, &refused) && refused.ByPeer && errors.Is(err, ErrDuplicate)
	r.mu.Lock()
	switch {
	case !duplicate:
		r.duplicate = time.Time{}
	case r.duplicate.IsZero():
		r.duplicate = time.Now()
	}
	r.mu.Unlock()
	if duplicate {
		r.mesh.judgeDuplicate(err)
	}
}

// judgeDuplicate decides who of two processes has to go. While each of them has
// as many peers, both do: that they run is the greater evil.
func (m *Mesh) judgeDuplicate(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	against, with := 0, 0
	for _, r := range m.remotes {
		r.mu.Lock()
		switch {
		case !r.duplicate.IsZero() && time.Since(r.duplicate) >= m.limits.duplicate:
			against++
		case r.in != nil || r.out != nil:
			with++
		}
		r.mu.Unlock()
	}
	if against == 0 || against < with {
		return
	}
	select {
	case m.duplicate <- err:
	default: // said already
	}
}
