package raftstore

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// keep has the session looked after until drop. The first one starts who does.
func (m *Mesh) keep(s *session) {
	s.conn.heard.Store(int64(time.Since(m.start)))
	m.keeping.Lock()
	defer m.keeping.Unlock()
	if m.kept == nil {
		m.kept = map[*session]struct{}{}
		m.wg.Go(m.keepSessions)
	}
	m.kept[s] = struct{}{}
}

func (m *Mesh) drop(s *session) {
	m.keeping.Lock()
	defer m.keeping.Unlock()
	delete(m.kept, s)
}

// keepSessions looks at all connections at each interval, so that an idle member
// wakes up once for all of them.
func (m *Mesh) keepSessions() {
	ticker := time.NewTicker(m.limits.ping)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-m.ctx.Done():
			return
		}
		m.keeping.Lock()
		sessions := slices.Collect(maps.Keys(m.kept))
		m.keeping.Unlock()
		now := time.Now()
		for _, s := range sessions {
			s.check(now)
		}
	}
}

// check closes a connection that is silent or no longer authenticated, and pings
// if we dialled it: ping and pong are a sign of life for both sides.
func (s *session) check(now time.Time) {
	heard := time.Duration(s.conn.heard.Load())
	switch {
	case now.Sub(s.mesh.start)-heard > s.mesh.limits.silence:
		s.close(errSilent)
	case !s.expires.IsZero() && now.After(s.expires):
		s.close(errExpired)
	case s.overdue(now):
		s.close(errReplaced)
	case !s.inbound:
		s.ping()
	}
}

func (s *session) ping() {
	ping := newOutFrame(framePing, 0, 0, 0, 8)
	ping.b = binary.BigEndian.AppendUint64(ping.b, uint64(time.Since(s.mesh.start)))
	if ping.seal() == nil {
		s.tryEnqueue(laneUrgent, ping)
	}
}
