package raftstore

import (
	"bufio"
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"
)

// writeLoop owns the writing half.
func (s *session) writeLoop() {
	ticker := time.NewTicker(s.mesh.limits.ping)
	defer ticker.Stop()
	bw := bufio.NewWriterSize(s.conn, 64<<10)
	s.conn.heard.Store(int64(time.Since(s.mesh.start)))
	s.ping()
	for {
		select {
		case <-s.wake:
		case <-ticker.C:
			s.check()
		case <-s.done:
			return
		case <-s.mesh.ctx.Done():
			_ = s.flush(bw) // as far as it goes
			s.close(ErrMeshClosed)
			return
		}
		if err := s.flush(bw); err != nil {
			s.peer.unsent.Inc()
			s.close(err)
			return
		}
	}
}

func (s *session) ping() {
	ping := newOutFrame(framePing, 0, 0, 0, 8)
	ping.b = binary.BigEndian.AppendUint64(ping.b, uint64(time.Since(s.mesh.start)))
	if ping.seal() == nil {
		s.tryEnqueue(laneUrgent, ping)
	}
}

// check pings, and closes a connection that is silent or no longer
// authenticated.
func (s *session) check() {
	now := time.Now()
	heard := time.Duration(s.conn.heard.Load())
	switch {
	case now.Sub(s.mesh.start)-heard > s.mesh.limits.silence:
		s.close(errSilent)
	case !s.expires.IsZero() && now.After(s.expires):
		s.close(errExpired)
	case s.overdue(now):
		s.close(errReplaced)
	default:
		s.ping()
	}
}

// flush writes all that is queued.
func (s *session) flush(bw *bufio.Writer) error {
	for {
		s.mu.Lock()
		batch := s.queue.take()
		s.mu.Unlock()
		if len(batch) == 0 {
			return s.sayEnd(bw)
		}
		for i, f := range batch {
			batch[i] = nil
			if _, err := bw.Write(f.b); err != nil {
				return err
			}
			f.release()
		}
	}
}

// timedConn gives each piece of a write its own deadline, counts bytes, and
// notes when something was last heard.
type timedConn struct {
	net.Conn
	limit time.Duration
	start time.Time
	heard atomic.Int64 // nanoseconds since start
	peer  atomic.Pointer[remote]
}

// writePiece is what has to leave within one write limit, in bytes.
const writePiece = 256 << 10

func (c *timedConn) count(r *remote) { c.peer.Store(r) }

func (c *timedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(int64(time.Since(c.start)))
		if r := c.peer.Load(); r != nil {
			r.received.Add(float64(n))
		}
	}
	return n, err
}

func (c *timedConn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		limit := c.limit
		r := c.peer.Load()
		if r != nil && r.mesh.ctx.Err() != nil {
			limit = farewell
		}
		if err := c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(p[done:min(len(p), done+writePiece)])
		done += n
		if r != nil {
			r.sent.Add(float64(n))
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
