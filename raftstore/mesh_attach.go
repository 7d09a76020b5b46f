package raftstore

import (
	"fmt"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// join attaches a session whose hello was accepted. While another process runs
// under the same id, that one stays.
func (m *Mesh) join(s *session, h handshake, inbound bool) error {
	r, err := m.caller(h.from)
	if err != nil {
		return err
	}
	s.peer, s.inbound, s.instance, s.nonce = r, inbound, h.instance, h.nonce
	s.renews, s.expires, s.skew = h.renews, h.expires, h.skew
	for {
		rivals, err := r.attach(s)
		if len(rivals) == 0 {
			return err
		}
		if m.answers(rivals) {
			return refuse(conclavepb.PeerRefusal_DUPLICATE, "%s", duplicateText(r, rivals))
		}
	}
}

// attach makes s the connection of its direction, unless there are connections
// of another process, which it returns. The one it replaces is closed: its
// dialler has given it up, unless s says that it renews it.
//
// A connection we dialled is where the peer's answers come. What waits when a
// new one is there may have been answered on the one before, which the peer
// took for open longer than we did, and would wait for ever. From the hello's
// answer on the peer uses the new one.
func (r *remote) attach(s *session) (rivals []*session, err error) {
	r.mu.Lock()
	if r.removed {
		r.mu.Unlock()
		return nil, refuse(conclavepb.PeerRefusal_NOT_MEMBER, "member %x was just removed", r.id)
	}
	for _, live := range []*session{r.in, r.out} {
		if live != nil && live.nonce != s.nonce {
			rivals = append(rivals, live)
		}
	}
	if len(rivals) > 0 {
		r.mu.Unlock()
		return rivals, nil
	}
	slot := r.slot(s)
	old := *slot
	*slot = s
	r.instance = s.instance
	r.skew = s.skew
	if r.since.IsZero() {
		r.since = time.Now()
	}
	if r.in != nil && r.out != nil {
		r.lastErr, r.logged = nil, ""
	}
	handedOver := old != nil && s.renews && old.retire()
	if !handedOver && (old != nil || !s.inbound) {
		r.failPending()
	}
	r.mesh.metrics.active(r, true)
	r.mu.Unlock()
	if old != nil && !handedOver {
		old.close(errReplaced)
	}
	r.mesh.announce()
	r.mesh.cfg.Log.Info().Str("remote-peer-id", r.text).Str("direction", s.direction()).
		Msg("established connection with peer")
	return nil, nil
}

func (r *remote) slot(s *session) **session {
	if s.inbound {
		return &r.in
	}
	return &r.out
}

// detach is called once a session is closed, and may be called again. What was
// asked over either connection fails: an answer may have been on this one.
func (r *remote) detach(s *session, cause error) {
	r.mu.Lock()
	slot := r.slot(s)
	if *slot != s {
		r.mu.Unlock()
		return
	}
	*slot = nil
	r.failPending()
	gone, removed := r.in == nil && r.out == nil, r.removed
	if gone {
		r.since = time.Time{}
		r.mesh.metrics.active(r, false)
	}
	r.mu.Unlock()
	if removed {
		return
	}
	r.note(fmt.Errorf("connection %s: %w", s.direction(), cause))
}

// lost is told of a connection that had been replaced and ended before all that
// was on it had arrived.
func (r *remote) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failPending()
}

// answers asks the process behind rivals for a sign of life. Connections that
// give none within half an election timeout are closed and detached.
func (m *Mesh) answers(rivals []*session) bool {
	timer := time.NewTimer(m.cfg.ElectionTimeout / 2)
	defer timer.Stop()
	signs := make([]<-chan struct{}, len(rivals))
	for i, s := range rivals {
		signs[i] = s.probe()
	}
	late := false
	for i, s := range rivals {
		if !late {
			select {
			case <-signs[i]:
			case <-s.done:
			case <-timer.C:
				late = true
			case <-m.ctx.Done():
				return true
			}
		}
		select {
		case <-signs[i]:
			return true
		default:
		}
	}
	for _, s := range rivals {
		s.close(errSuperseded)
		s.peer.detach(s, s.endCause())
	}
	return false
}

// duplicateText tells the newcomer where the other process is.
func duplicateText(r *remote, rivals []*session) string {
	var where []string
	instance := ""
	for _, s := range rivals {
		instance = s.instance
		if s.inbound {
			where = append(where, "connected from "+s.raw.RemoteAddr().String())
		} else {
			where = append(where, "answering at "+s.target)
		}
	}
	return fmt.Sprintf("two processes run under one member id: another one is member %x, %s (data directory %s); "+
		"stop one of them, and never start a copy of a data directory", r.id, strings.Join(where, ", "), instance)
}
