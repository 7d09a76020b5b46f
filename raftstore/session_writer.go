package raftstore

import (
	"net"
	"sync/atomic"
	"time"
)

// directPause is for how long nothing was written when a frame is written by who
// queues it. On a busier connection writeLoop puts many into one write.
const directPause = 100 * time.Microsecond

// writeLoop writes what is queued until the session ends.
func (s *session) writeLoop() {
	for {
		select {
		case <-s.wake:
		case <-s.done:
			return
		case <-s.mesh.ctx.Done():
			_ = s.flush() // as far as it goes
			s.close(ErrMeshClosed)
			return
		}
		if err := s.flush(); err != nil {
			s.peer.unsent.Inc()
			s.close(err)
			return
		}
	}
}

// flush writes all that is queued.
func (s *session) flush() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	defer func() { s.wrote = time.Now() }()
	if err := s.conn.finish(); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		batch := s.queue.take()
		s.mu.Unlock()
		if len(batch) == 0 {
			return s.sayEnd(s.bw)
		}
		for i, f := range batch {
			batch[i] = nil
			if _, err := s.bw.Write(f.b); err != nil {
				return err
			}
			f.release()
		}
	}
}

// writeNow writes the one small frame that is queued, without blocking: what the
// connection does not take at once is left to writeLoop. It returns false if
// writeLoop has to do it all.
func (s *session) writeNow() bool {
	if s.conn.direct == nil || !s.writing.TryLock() {
		return false
	}
	defer s.writing.Unlock()
	now := time.Now()
	if now.Sub(s.wrote) < directPause || s.conn.direct.pending() {
		return false
	}
	s.mu.Lock()
	f := s.queue.only()
	s.mu.Unlock()
	if f == nil {
		return false
	}
	left, err := s.conn.writeNow(f.b, now)
	f.release()
	s.wrote = now
	if err != nil {
		s.peer.unsent.Inc()
		s.close(err)
	}
	return !left
}

// timedConn gives each piece of a write its own deadline, counts bytes, and
// notes when something was last heard.
type timedConn struct {
	net.Conn
	direct   *directConn // below Conn; nil where it is no TCP connection
	limit    time.Duration
	start    time.Time
	heard    atomic.Int64 // nanoseconds since start
	peer     atomic.Pointer[remote]
	deadline time.Time // of writes; zero for none; who writes holds session.writing
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
		if err := c.limitWrite(); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(p[done:min(len(p), done+writePiece)])
		done += n
		if r := c.peer.Load(); r != nil {
			r.sent.Add(float64(n))
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// limitWrite sets the deadline of the next piece. A timer costs about as much as
// a small write, so one that leaves most of the limit stays.
func (c *timedConn) limitWrite() error {
	now := time.Now()
	if c.closing() {
		return c.SetWriteDeadline(now.Add(farewell))
	}
	if c.deadline.Sub(now) >= c.limit*3/4 {
		return nil
	}
	c.deadline = now.Add(c.limit)
	return c.SetWriteDeadline(c.deadline)
}

func (c *timedConn) closing() bool {
	r := c.peer.Load()
	return r != nil && r.mesh.ctx.Err() != nil
}

// writeNow writes without blocking; left says that finish has to write a rest.
func (c *timedConn) writeNow(p []byte, now time.Time) (left bool, err error) {
	if !c.deadline.IsZero() && !now.Before(c.deadline.Add(-time.Second)) {
		c.deadline = time.Time{} // one that has passed would end the connection
		if err := c.SetWriteDeadline(time.Time{}); err != nil {
			return false, err
		}
	}
	c.direct.hurry(true)
	n, err := c.Conn.Write(p)
	c.direct.hurry(false)
	if r := c.peer.Load(); r != nil {
		r.sent.Add(float64(n))
	}
	return c.direct.pending(), err
}

// finish writes what writeNow left.
func (c *timedConn) finish() error {
	if c.direct == nil || !c.direct.pending() {
		return nil
	}
	if err := c.limitWrite(); err != nil {
		return err
	}
	return c.direct.finish()
}
